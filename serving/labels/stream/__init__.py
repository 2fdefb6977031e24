"""The prediction stream: what models answer, as it happens, with both arms side by side.

It reads the files of the prediction log, which model servers write anyway: it costs them nothing.

`rows`     a row of the log as the page shows it
`watching` follows a pipeline's log while somebody looks
`traffic`  what the agent says of weights and the rollout
`routes`   the addresses
"""
