"""`edgekd init`: a first recipe, written by looking at the data, the teacher, the device and this machine."""
