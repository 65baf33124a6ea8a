"""Two directives: ``checks``, every check with what it proves, and ``faults``, every name of a fault."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from gradharness.checks import all_checks
from gradharness.model.verdict import Fault


class Checks(SphinxDirective):
    """A section for each check, from the check itself."""

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for check in all_checks():
            section = nodes.section(ids=[nodes.make_id(f"check-{check.name}")])
            section += nodes.title("", "", nodes.literal(text=check.name))
            section += nodes.paragraph(text=check.proves)
            section += nodes.paragraph(
                "", "", nodes.strong(text="What a pass does not mean. "), nodes.Text(check.cannot)
            )
            if check.causes:
                section += nodes.paragraph("", "", nodes.strong(text="Usual causes of a failure, and their remedies"))
                items = nodes.bullet_list()
                for cause, remedy in check.causes:
                    items += nodes.list_item("", nodes.paragraph(text=f"{cause}: {remedy}."))
                section += items
            found.append(section)
        return found


class Faults(SphinxDirective):
    """The names of faults, as reports and records use them."""

    def run(self) -> list[nodes.Node]:
        items = nodes.bullet_list()
        for fault in Fault:
            items += nodes.list_item("", nodes.paragraph("", "", nodes.literal(text=fault.value)))
        return [items]


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's hook."""
    app.add_directive("checks", Checks)
    app.add_directive("faults", Faults)
    return {"parallel_read_safe": True}
