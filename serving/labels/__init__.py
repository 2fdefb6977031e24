"""Labels by people: questions about logged predictions, and the page on which they are answered.

`store`  questions, who was asked, and what they said, in SQLite or PostgreSQL
`page`   what labellers and reviewers see, and who may see it
`stream` what models answer, live
`server` the process that serves it
"""
