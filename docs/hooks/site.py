"""Hook of mkdocs: adds the pages that are made of other files, and turns links into the repository into links to pages.

`NOTEBOOKS=show` leaves notebooks as they are; otherwise they are executed, and one that fails fails the build.
"""

from __future__ import annotations

import logging
import os

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from notebook_pages import as_markdown, executed
from op_pages import ops_page
from places import PAGES, ROOT, local_links, page_of, rewritten, target_of
from reference_pages import MODULES, commands_page, modules_page
from source_pages import source_page

log = logging.getLogger("mkdocs.hooks.site")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, then a page for every file of the repository that any of them links to."""
    made = {"reference/ops.md": ops_page(), "reference/commands.md": commands_page()}
    made |= {f"reference/modules/{name}.md": modules_page(name) for name in MODULES}
    for page, source in PAGES.items():
        made[page] = _notebook(source) if source.endswith(".ipynb") else (ROOT / source).read_text()
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    texts = {f.src_uri: f.content_string for f in files.documentation_pages()}
    for page, text in texts.items():
        for link in local_links(text):
            path, _ = target_of(link, page)
            to = page_of(path)
            if to.startswith("source/") and files.get_file_from_path(to) is None:
                if not (ROOT / path).exists():
                    log.warning("%s links to %s, which does not exist", page, path)
                    continue
                files.append(File.generated(config, to, content=source_page(path), inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them."""
    return markdown if page.file.src_uri.startswith("source/") else rewritten(markdown, page.file.src_uri)


def _notebook(source: str) -> str:
    path = ROOT / source
    show = os.environ.get("NOTEBOOKS") == "show"
    return as_markdown(nbformat.read(path, as_version=4) if show else executed(path), path.stem)
