"""tf.Transform's full pass over the raw examples."""
