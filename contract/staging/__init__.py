"""An artifact root in an object store, and the scratch folder that stands for it on this machine.

The scratch folder has the layout of a volume, so that a step runs in it unchanged. `root` is the
door: it fetches what a step reads and publishes what it leaves. Below `<root>/<pipeline>/`:

    runs/<run>/.attempts/<step>/<n>         fencing tokens, each created by a conditional write
    runs/<run>/.objects/<sha256>            files; one with these bytes is never written twice
    runs/<run>/.published/pipeline.json     the names and digests of config and user code
    runs/<run>/.published/<step>/<n>.json   the result of an attempt and its files, created last
    runs/<run>/.published/checkpoints/<n>.json
    runs/<run>/train/ended.json, evaluate/  what training and evaluation tell each other
    versions/<n>/                           packages, as on a volume; package.json comes last
    validated/<run>                         runs that `validate` compares later ones with
    schema.json                             the data schema in force

Only the result of a step's highest attempt counts: a claim outdates all earlier attempts at once,
and what one of them publishes afterwards is not read.
"""
