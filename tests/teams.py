"""What the example teams promise, as an independent count of what lies in their streams."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """Every root event leads to exactly one event of each group."""

    domain: str
    root: str
    groups: tuple[tuple[str, ...], ...]

    async def assert_kept(self, stage, keys):
        """Checks that the stream holds one root event of each key, its promised outputs, and no other event at all."""
        events = await stage.subjects(self.domain, "evt.>")
        expected = {f"evt.{self.root}.{key}" for key in keys}
        for group in self.groups:
            for key in keys:
                found = [subject for name in group if (subject := f"evt.{name}.{key}") in events]
                assert len(found) == 1, f"{key} has {found or 'none'} of {group}"
                expected.update(found)
        assert events == dict.fromkeys(expected, 1)
        assert await stage.dead_letters(self.domain) == []


REVOPS = Promise("revops", "lead_captured", (("lead_scored",), ("offer_priced",), ("lead_contacted", "lead_skipped")))
NEWSROOM = Promise(
    "newsroom",
    "story_filed",
    (("story_triaged",), ("facts_checked",), ("headline_written",), ("story_published", "story_spiked")),
)
