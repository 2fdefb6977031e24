"""One label out of several people's answers, and whose answers say something.

`answers`     who said what of which question, as arrays
`dawid_skene` the label of each question with its confidence, and each person's errors
`people`      who guesses, and who answers wrongly on purpose
`settling`    a file of answers in, a file of labels out
"""
