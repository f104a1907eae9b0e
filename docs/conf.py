"""Settings of Sphinx, which builds these pages and the reference from the docstrings."""

import ndframes

project = "ndframes"
author = "The ndframes developers"
copyright = author
release = version = ndframes.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "performance/*.rst"]
highlight_language = "none"

html_theme = "furo"
html_title = "ndframes"
html_static_path = ["_static"]
html_css_files = ["ndframes.css"]
html_show_copyright = False
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
