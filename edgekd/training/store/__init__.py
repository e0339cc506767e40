"""Teacher knowledge on a disk or in an object store: shards of records, written once and read at random."""
