"""Detectors of the Ultralytics engine: YOLO and RT-DETR."""
