"""What the DICOMweb routes can be told: one frozen value, made by the composition root."""

from __future__ import annotations

from dataclasses import dataclass, field

from dicomweb.multipart import PartLimits
from storage.index.presets import FRESH_SECONDS


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Limits and addresses of the DICOMweb service. Times are seconds, sizes bytes."""

    # Where the service is mounted; BulkDataURI values in metadata begin with it.
    path: str = "/dicom-web"
    # Scheme and authority that clients use, for RetrieveURL behind a proxy; empty: those of the request.
    public_url: str = ""
    # Origins of web pages elsewhere whose scripts may use the service (`scheme://host:port`), or `*` for all.
    cors_origins: tuple[str, ...] = ()
    # A body that sends nothing for this long, or that averages less than `body_minimum_rate` bytes a second, is cut.
    body_idle_seconds: float = 30.0
    body_total_seconds: float = 3600.0
    body_minimum_rate: int = 1024
    # A client that takes nothing of an answer for this long is cut off.
    send_idle_seconds: float = 60.0
    # The largest request body; None: bounded only by its parts.
    max_request_bytes: int | None = None
    parts: PartLimits = field(default_factory=PartLimits)
    # Instances of one request that are being stored at the same time; each holds at most 1 MiB of memory.
    store_in_flight: int = 16
    # Worker threads that storing, and that drawing pictures, may take of those that all requests share.
    store_threads: int = 16
    picture_threads: int = 8
    # Answers that one search returns at most, None: any number; and the status of a search that finds nothing, 200 with an
    # empty list or 204.
    search_most: int | None = None
    search_empty_status: int = 200
    # Seconds after which a client may try again when the archive was unavailable.
    retry_after: int = 10
    # Memory for places of frames and headers of recently read instances, and how long one is believed.
    layout_cache_bytes: int = 64 << 20
    layout_cache_seconds: float = 2.0
    # Memory for the metadata of series that have been asked for, compressed.
    metadata_cache_bytes: int = 32 << 20
    # Whether there may be HTJ2K copies, and whether frames that have one come in that where no transfer syntax is named.
    htj2k_copies: bool = False
    htj2k_first: bool = False
    # Whether thumbnails may lie in the store, drawn before anybody asks.
    thumbnails: bool = False
    # How long the presets of the site are believed.
    preset_cache_seconds: float = FRESH_SECONDS
    # Memory for pictures that have been drawn.
    picture_cache_bytes: int = 32 << 20
