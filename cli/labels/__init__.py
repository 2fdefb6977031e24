"""Between the prediction log, the questions that people answer, and files of others."""
