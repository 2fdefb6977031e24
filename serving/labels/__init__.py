"""Labels by people: questions about logged predictions, and the page on which they are answered.

`store`  questions, who was asked, and what they said, in SQLite or PostgreSQL
`page`   what labellers and reviewers see, and who may see it
`stream` what models answer, live
`truth`  the address by which programs tell what has turned out to be true
`server` the process that serves it
"""
