"""How Sphinx makes the site of the pages beside it and of the docstrings; `make docs` runs it.

The pages are written for a reader of the repository: plain Markdown, links to files. What the site needs beyond that is
done here.
"""

import inspect
import re
import sys
from pathlib import Path

from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.inspect import signature, stringify_signature

sys.path.insert(0, str(Path(__file__).parent.parent))

import nem_tf

project = "nem_tf"
release = nem_tf.__version__
html_title = f"nem_tf {release}"
html_theme = "furo"
html_show_copyright = html_show_sphinx = html_copy_source = False
exclude_patterns = ["_build", "exported", "runs"]
smartquotes_action = "D"  # dashes alone: [..., H, W, C] and "image" stay what one types

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # tests/test_tour.py runs it; what it shows is what was committed

autodoc_inherit_docstrings = False  # a method that only carries out what its base class says is not told again
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 100
default_role = "py:obj"  # `RNNEM` is a link where it is known, and code everywhere
napoleon_custom_sections = [("Call arguments", "params_style")]
napoleon_use_param = False  # "mixture, k: see .." names two arguments, which `:param:` takes for a type and a name
napoleon_use_rtype = False


def signatures(app, what, name, obj, options, arguments, returns):
    """Shows signatures as the source has them."""
    if what == "class" and not issubclass(obj, tuple):
        # Of a Keras layer autodoc finds Keras' `__new__(*args, **kwargs)` before our `__init__`.
        arguments = stringify_signature(signature(obj.__init__, bound_method=True), unqualified_typehints=True)
    # By the name alone a type is looked for among the public names; where it is defined is no concern of a reader.
    return tuple(re.sub(r"~[\w.]+\.(?=\w)", "", part) if part else part for part in (arguments, returns))


def fields(app, what, name, obj, options, lines):
    """Lists the fields of a named tuple with the comments beside them."""
    found = re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(obj), re.MULTILINE) if what == "class" else []
    if found and issubclass(obj, tuple):
        lines += ["", "Arguments:", *(f"    {field}: {text}" for field, text in found), ""]


def diagrams(app, what, name, obj, options, lines):
    """Makes an indented block after a paragraph what it is to a reader of the source: text as it stands."""
    result, last = [], ""  # the last line that is not blank
    for i, line in enumerate(lines):
        begins = line.startswith("    ") and not last.startswith(" ") and not lines[i - 1].strip()
        if begins:
            result += [".. code-block:: text", ""]
        result.append(line)
        last = line if line.strip() else last
    lines[:] = result


def files_beside(app, document):
    """Makes a link to a file of the repository that is no page, such as a model's card, one to a copy of it."""
    for link in list(document.findall(addnodes.pending_xref)):
        page = link.get("reftarget")
        if link.get("refdomain") == "doc" and page not in app.env.found_docs:
            path = Path(app.srcdir, f"{page}.md").resolve()
            target = path.relative_to(Path(app.srcdir).parent)
            copy = addnodes.download_reference("", "", *link.children, reftarget=f"../{target}", refdoc=link["refdoc"])
            link.replace_self(copy)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", signatures)
    # Before Napoleon, which takes the sections apart.
    app.connect("autodoc-process-docstring", fields, priority=300)
    app.connect("autodoc-process-docstring", diagrams, priority=301)
    app.connect("doctree-read", files_beside, priority=400)  # before Sphinx collects what is to be copied
