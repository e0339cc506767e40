"""Where trials run beside one another: processes of this machine, or a Ray cluster."""
