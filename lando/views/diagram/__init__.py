"""Diagrams of the state machine, generated from its transitions. In reading order:

graph.py     which arrows, conditions and effects are drawn
job_path.py  one job's path through the machine, which can be drawn, too
graphviz.py  the diagram in Graphviz's language, and its pictures
layout.py    where the boxes, arrows and labels of a picture go
markup.py    text in Graphviz's HTML-like labels
style.py     the colors
mermaid.py   the diagram in Mermaid's language
__main__.py  writes the files of diagrams/
"""
