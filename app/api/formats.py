"""`/v1/formats`: what results are written in, and what labels are read from."""

from __future__ import annotations

from fastapi import APIRouter

from app.formats import FORMATS, Format
from app.schemas.formats import FormatList, FormatOut

router = APIRouter(prefix="/v1/formats", tags=["formats"])


@router.get("", operation_id="list_formats", summary="List formats")
def list_formats() -> FormatList:
    """The formats of exports (`GET /v1/jobs/{id}/exports/{name}`) and of annotations (`POST /v1/jobs`)."""
    return FormatList(formats=[format_out(format_) for format_ in FORMATS.values()])


def format_out(format_: Format) -> FormatOut:
    """A row of the table as it is shown."""
    directions = {"export": format_.write, "import": format_.read}
    return FormatOut.model_validate(
        {
            "name": format_.name,
            "media_type": format_.media_type,
            "filename": format_.filename,
            "label_types": format_.label_types,
            "directions": [direction for direction, way in directions.items() if way is not None],
            "options": format_.options,
        }
    )
