"""The report of a run, built from the files of its directory."""
