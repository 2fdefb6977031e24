"""The label page: one question at a time, by keyboard, finger or screen reader.

`visitors` who asks: tokens with a right that opens a page, and the mark against forged requests
`limits`   how many requests one token may send
`shown`    inputs as pictures, text and a table
`forms`    what a browser or a program sends
`door`     who is let in, what each answer carries, and refusals in words
`app`      the addresses of the questions
`conflicts` which questions people do not agree on
`review`   the addresses of the reviewer's page

`templates/` is HTML, of which Jinja escapes every value; `static/` is what browsers load: our style
and script, and htmx (Zero-Clause BSD, from npm).
"""
