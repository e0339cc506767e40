"""`edgekd evidence`: what was executed on which hardware, measured by one command, kept in one file per machine."""
