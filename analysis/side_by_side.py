"""When events were: arrays of several runs or pathways beside one another at the moments of all."""

from collections.abc import Sequence

import xarray as xr

MOMENTS = ("time", "observers_seen")
"""Coordinates that say when an event was."""


def side_by_side(arrays: Sequence[xr.DataArray], along: xr.Variable) -> xr.DataArray:
    """Return arrays along a new dimension, at the moments of all: NaN where one has none, but never in when that was.

    Parameters
    ----------
    arrays : sequence of DataArray
        Along event or snapshot, with the coordinates time and observers_seen.
    along : Variable, 1-D
        The labels of the new dimension.
    """
    plain = [array.drop_vars([name for name in MOMENTS if name in array.coords]) for array in arrays]
    found = xr.concat(plain, along, join="outer", coords="minimal", compat="override")
    for name in MOMENTS:
        known = [array.coords[name].reset_coords(drop=True) for array in arrays if name in array.coords]
        if known:
            whole = known[0]
            for other in known[1:]:
                if not whole.equals(other):
                    whole = whole.combine_first(other)
            exact = bool(whole.notnull().all()) and known[0].dtype.kind in "iu"
            found = found.assign_coords({name: whole.astype(known[0].dtype) if exact else whole})
    return found
