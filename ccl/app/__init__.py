"""A page in the browser over both pipelines (scripts/app.py): jobs in a queue, files from files, and the page itself.

What is not Gradio stands in modules that do not import it.
"""
