"""Choosing what to ask people: rows of the prediction log, each with the probability of its choice.

`measures`   how much a label of each row is worth: unsure, disputed or unlike the others
`sampling`   random choices in which the probability of each row is known exactly
`variety`    centres that cover the rows, and rows that are nearly the same
`sketches`   a short vector for each logged row, from its inputs
`asked`      the cells in which rows lie that people were asked about before
`candidates` the rows of the log among which is chosen, as arrays
`choice`     all of it together, by day and class
"""
