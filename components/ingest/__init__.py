"""Raw data to sharded TFRecords of raw examples, through Beam."""
