# SPDX-License-Identifier: Apache-2.0
"""TensorRT on the device: engines are built here from ONNX, kept in a cache, and never shipped."""
