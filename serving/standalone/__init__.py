"""Several models and versions in one process, as TensorFlow Serving's own program serves them.

`python -m serving.standalone` takes the flags of `tensorflow_model_server` and answers as it does:
SavedModels and LiteRT files from folders, without a package, a plan or a rollout. `serving.server`
beside it serves one package behind the data plane; this room uses its HTTP connections, its batcher
and its messages.

`flags`           the command line
`configuration`   the files in protobuf's text format, read and checked
`versions`        which versions a base path holds, and which of them a policy wants
`saved_model`     a SavedModel by TensorFlow's first loader, which takes every kind of signature
`lite_model`      a LiteRT file behind the same interface
`opening`         chooses between them
`warm_up`         replays the requests that a version brings
`servables`       loads and unloads versions, and finds the one that a request means
`running`         runs a version's graph: request by request, or in batches
`limits`          how much one request may ask for
`calls`           who waits for a prediction, and what the prediction log keeps of it
`inference`       Predict, Classify, Regress, MultiInference, in the terms of no protocol
`messages`        what requests hold, as arrays and examples
`json_tensors`    the JSON of requests
`json_answers`    the JSON of answers
`rest`, `rpc`     the two fronts
`open_inference`  the Open Inference Protocol, for both
`monitoring`      metrics under TensorFlow Serving's names
`process`         the life of the process
"""
