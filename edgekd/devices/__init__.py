"""Transport to devices, and the host side of the agent that runs on them."""
