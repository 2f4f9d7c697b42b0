"""What the score predicts: a zoo of small models, each audited and then really damaged on other samples.

`make validity DATA=FOLDER` trains, audits and damages every model (one JSON each under build/validity, so that a run
goes on where the last one stopped), writes the raw table `zoo.csv` beside this file, and from that table alone
`docs/validity.md`, its figures and the reference population that ships with the package.
"""
