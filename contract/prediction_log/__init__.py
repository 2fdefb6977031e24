"""The prediction log on storage: columns, names of files, writing, reading, removing.

A model server writes it, the agent and the choice of rows to label read it. This is the only
part of the contract that needs pyarrow; all who import it bring that themselves.

`columns`  the Arrow schema of a version's log
`files`    where a file lies and which rows it has
`writing`  a file is there whole or not at all; many small files become one
`reading`  rows as Arrow tables or as records of the contract
`following` what was added since the last look
`json_values` a value of a row as JSON
`removing` what is too old or too much
"""
