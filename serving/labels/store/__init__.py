"""Questions, assignments, answers and labellers, in SQLite or PostgreSQL.

`tables`    their columns
`upgrading` bringing an older database to these, by `revisions/`
`database`  opening it, and what is said if it is locked or down
`adding`    new questions: known ones, numbers and places
`questions` adding them, and giving the next one to a labeller
`answering` answers, skips and undoing
`reviewing` a reviewer's decisions
`truths`    what has turned out to be true of predictions
`standing`  points, progress and the leader board
`records`   what the others return
"""
