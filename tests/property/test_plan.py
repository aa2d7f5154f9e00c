"""What a push looks at, against sets of bytes: nothing that may have changed is left out, nothing else is called a hole."""

from hypothesis import given
from hypothesis import strategies as st

from engine.device.base import Change, ChangeKind
from engine.extent import Extent, normalise
from engine.ops.plan import plan_delta, plan_full
from engine.repo.map import BLOCK, REGION, region_blocks
from engine.units import SECTOR

# Around the borders of regions and blocks, counted in sectors.
places = st.sampled_from([0, REGION, 2 * REGION]).flatmap(
    lambda base: st.integers(max(0, base // SECTOR - 40), base // SECTOR + 40)
)
sizes = places.map(lambda sectors: (sectors + 1) * SECTOR)


@st.composite
def extents_inside(draw):
    size = draw(sizes)
    spans = draw(st.lists(st.tuples(places, st.integers(1, 60)), max_size=6))
    inside = [Extent(at * SECTOR, n * SECTOR) for at, n in spans if (at + n) * SECTOR <= size]
    return size, normalise(inside)


@st.composite
def deltas(draw):
    """A size and changes inside it: sorted, disjoint, of both kinds, touching and not."""
    size, covered = draw(extents_inside())
    changes = []
    for extent in covered:
        cut = draw(st.integers(0, extent.length // SECTOR)) * SECTOR
        kinds = draw(st.permutations(list(ChangeKind)))
        for start, length, kind in ((extent.start, cut, kinds[0]), (extent.start + cut, extent.length - cut, kinds[1])):
            if length:
                changes.append(Change(Extent(start, length), kind))
    return size, changes


def blocks_of(extent, *, whole, size):
    """The volume's blocks that an extent touches, or with `whole` only those that it covers up to the volume's end."""
    first = -(-extent.start // BLOCK) if whole else extent.start // BLOCK
    last = extent.end // BLOCK if whole and extent.end < size else -(-extent.end // BLOCK)
    return set(range(first, last))


def planned(plan, ranges):
    return {plan.region * (REGION // BLOCK) + block for one in ranges for block in one}


@given(deltas())
def test_every_changed_block_is_looked_at_and_every_hole_is_one(delta):
    size, changes = delta
    touched = set().union(*(blocks_of(change.extent, whole=False, size=size) for change in changes))
    read = set().union(*(blocks_of(c.extent, whole=False, size=size) for c in changes if c.kind is ChangeKind.CHANGED))
    gone = normalise(c.extent for c in changes if c.kind is ChangeKind.HOLE)
    whole = set().union(*(blocks_of(extent, whole=True, size=size) for extent in gone))

    plans = list(plan_delta(iter(changes), size, size))

    assert [plan.region for plan in plans] == sorted({plan.region for plan in plans})
    changed = set().union(*(planned(plan, plan.changed) for plan in plans))
    holes = set().union(*(planned(plan, plan.holes) for plan in plans))
    assert changed == touched
    assert holes == whole - read
    for plan in plans:
        assert all(
            0 <= one.start < one.stop <= region_blocks(size, plan.region) for one in (*plan.changed, *plan.holes)
        )


@given(deltas(), sizes)
def test_the_last_region_of_a_volume_that_has_grown_is_cut_in_full(delta, old_size):
    size, changes = delta
    if old_size >= size:
        return
    last = (old_size - 1) // REGION
    plans = {plan.region: plan for plan in plan_delta(iter(changes), size, old_size)}
    if region_blocks(old_size, last) != region_blocks(size, last):
        assert plans[last].changed is None
        assert plans[last].holes == ()
    touched = {region for c in changes for region in range(c.extent.start // REGION, (c.extent.end - 1) // REGION + 1)}
    assert touched <= set(plans)


@given(extents_inside())
def test_a_full_push_reads_what_is_allocated_and_calls_the_rest_holes(inside):
    size, allocated = inside
    wanted = set().union(*(blocks_of(extent, whole=False, size=size) for extent in allocated))

    plans = list(plan_full(iter(allocated), size))

    for plan in plans:
        assert plan.changed is None
        region = set(range(region_blocks(size, plan.region)))
        holes = {block for one in plan.holes for block in one}
        assert {plan.region * (REGION // BLOCK) + block for block in region - holes} <= wanted
    assert {block // (REGION // BLOCK) for block in wanted} == {plan.region for plan in plans}
    read = set().union(
        *(
            set(range(region_blocks(size, plan.region))) - {b for one in plan.holes for b in one}
            for plan in plans
            if plan.region == 0
        )
    )
    assert read == {block for block in wanted if block < REGION // BLOCK}
