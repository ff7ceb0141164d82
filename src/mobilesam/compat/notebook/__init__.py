"""A picture to click on in Jupyter: each click is answered at once with a mask over the picture.

Needs the extra ``notebook`` (anywidget). What is clicked is a :class:`mobilesam.Session` for each object, so that
everything can be undone, saved as JSON, and gone on with elsewhere.
"""

from mobilesam.compat.notebook.clicker import Clicker as Clicker
