"""The command line: minibert classify | fetch | explain | exercise | doctor.

A text's way to its label, one hand-over a file:

    cli.py            arguments
    label_file.py     opens input and output, makes the pipeline
    text_file.py      the input's records, one text each (not_text.py refuses files that hold no text)
    ../text_classification.py   text to label
    output_file.py    one JSON object a line; with --resume, where to continue

Beside this way: exit_status.py ends every command and script with a true status, doctor.py checks the machine.
"""
