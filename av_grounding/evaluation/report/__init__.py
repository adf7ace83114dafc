"""What an evaluation leaves: report.json for scripts, report.md for papers, report.html to see.

`content` gathers the numbers, and the others draw what it gathered.
"""
