"""The DICOMweb part of the conformance statement (PS3.2), from the tables that drive the routes."""

from __future__ import annotations

from collections.abc import Iterable

from dicomweb import negotiation
from dicomweb.app import RESOURCES, WADO_URI
from dicomweb.assembly import METADATA_BYTES, WAITING_BYTES
from dicomweb.bulkdata import DOCUMENT_TYPES
from dicomweb.codestreams import FRAMES, VIDEOS
from dicomweb.media_types import DICOM, DICOM_JSON, DICOM_XML, OCTETS, RELATED
from dicomweb.negotiation import Offer
from dicomweb.qido import PARAMETERS as SEARCH_PARAMETERS
from dicomweb.rendering.angiography import AROUND, MOST_REGIONS, MOST_SHUTTERS
from dicomweb.rendering.request import MAX_SIDE, QUALITY, THUMBNAIL_SIDE
from dicomweb.rendering.request import PARAMETERS as RENDERING_PARAMETERS
from dicomweb.settings import WebSettings
from dicomweb.store_response import WARNING_REASONS
from dicomweb.transactions import Resource
from dicomweb.wado_uri import PARAMETERS as URI_PARAMETERS
from storage.attributes import name_of
from storage.codecs.decoding import DECODERS
from storage.commitment import AT_ONCE, AT_ONCE_BYTES
from storage.conformance import table
from storage.non_patient import CATEGORIES
from storage.preset_file import built_in
from storage.procedure_steps import RULES
from storage.transfer_syntaxes import EXPLICIT_BIG, LOSSLESS_TARGETS
from storage.transfer_syntaxes import TABLE as SYNTAXES

# What answers (`Resource.methods`): section of PS3.18, what it is, and what can be said against it.
HANDLERS: dict[str, tuple[str, str]] = {
    "instances": ("10.4.1.1.1", "Part 10 files, one to a part, each as stored or in Explicit VR Little Endian; as application/zip a file-set with its DICOMDIR (PS3.10 8)"),
    "instance": ("10.4.1.1.1", "one Part 10 file, in a part, alone or in a ZIP file, as stored or in Explicit VR Little Endian; Range"),
    "metadata": ("10.4.1.1.2", "the data sets in DICOM JSON or the Native DICOM Model in XML, bulk data by reference; ETag, gzip and zstd"),
    "rendered": ("10.4.1.1.3", "pictures of the frames named, else one picture: of an instance its first frame, of a presentation state its first image, of a study or series the first frame of its middle image; as GIF, WebP or MP4 all frames of an instance, of all images of a series, or of what a presentation state shows, one after the other. What is no image: structured reports, key objects and real world value mappings as HTML, text, or pages; PDF documents as they are, as text, or pages; CDA, STL, OBJ and MTL as they are; videos as they are, and, where PyAV is installed (`lightbox-pacs[video]`), as MP4 and their frames as pictures; cine likewise as MP4 for who names it; waveforms as PNG (or another picture) and SVG: ECG in pages of ten seconds at 25 mm/s and 10 mm/mV. Segmentations and structure sets in colour over the images of the archive that they were made on, by where both are in the patient: of frame n its segment, of the whole the plane with most segments, or the image with most regions. Dose grids (RT Dose) as a wash of colours, from a twentieth of their highest dose on and with a bar that says how much it is, over images in the same frame of reference (CT before MR before PT): of the series that the structure set of its plan was drawn on, wherever that is stored, else of its study, else of the patient's other studies; interpolated at their pixels: of frame n the image nearest to it, of the whole that of the highest dose; without images in grey by Dose Grid Scaling, `window` in dose units. The numbers of frames are then those of pages (extension)"),
    "thumbnail": ("10.4.1.1.4", f"one picture of the middle of what is named, at most {THUMBNAIL_SIDE} pixels wide and high unless a viewport asks otherwise; an icon for what has no pixels"),
    "bulk data": ("10.4.1.1.5", "one value at the BulkDataURI that metadata gave, nested ones too; Range"),
    "all bulk data": ("10.4.1.1.5", "every bulk value of the resource in a part of its own, at its BulkDataURI; what Accept does not name is left out"),
    "all pixel data": ("10.4.1.1.6", "the same of pixel data alone; encapsulated pixel data frame by frame"),
    "frames": ("10.4.1.1.6", "frames in the order named, as stored or decoded; Range"),
    "search studies": ("10.6", "search for studies"),
    "search series": ("10.6", "search for series; of all studies with the attributes of the study"),
    "search instances": ("10.6", "search for instances; with the attributes of the levels that the path does not fix"),
    "store": ("10.5", "stores; below a study only instances of it"),
    "delete": ("extension", "deletes, which can be undone; `reason` (a code of PS3.16 CID 7011, such as 113001, or words) and `comment` in the query or in a JSON object. 200 with the number of the deletion, 404 for what is not there, 409 under a legal hold"),
    "reject": ("extension", "the same for the code in the path (`113001^DCM`), as OHIF asks dcm4chee; 204"),
    "create workitem": ("11.4", "creates; the UID in the query (alone, or as `workitem`), in the data set, or made up"),
    "workitem": ("11.5", "the workitem without its Transaction UID, in an array of one or in XML"),
    "update workitem": ("11.6", "replaces attributes; the Transaction UID in the query (alone, or as `transaction-uid`) or in the data set"),
    "change state": ("11.7", "claims, completes, cancels"),
    "request cancellation": ("11.8", "cancels what nobody has claimed, tells the performer of the rest"),
    "search workitems": ("11.9", "parameters as of other searches, without orderby, totalcount and cursor"),
    "subscribe": ("11.10", "to one workitem, to all (1.2.840.10008.5.1.4.34.5), or to those that match (1.2.840.10008.5.1.4.34.5.1; attributes as parameters, or in `filter` as name=value separated by commas); `deletionlock`"),
    "unsubscribe": ("11.11", "from one workitem, or from all"),
    "non-patient instance": ("12.4", "the data set in JSON or XML, bulk data by reference, or the Part 10 file; ETag, Range for the file"),
    "store non-patient instances": ("12.5", "stores instances of the category, and no others"),
    "store non-patient instance": ("12.5", "stores the instance that the path names"),
    "search non-patient instances": ("12.6", "search by any attribute, in sequences too"),
    "bulk data of a non-patient instance": ("12.4", "one value at the BulkDataURI that the data set gave (extension); Range"),
    "delete non-patient instance": ("beside it", "deletes, as studies are deleted (extension)"),
    "event channel": ("11.13", "events, on a WebSocket; 426 for who does not ask for one"),
    "request commitment": ("13.4", "verifies, or has a worker verify, that instances are stored as they were received"),
    "commitment result": ("13.5", "what came of a request, for 30 days"),
    "capabilities": ("8.9", "what the service can do, in WADL or JSON"),
    "suspend": ("11.12", "no further workitems; those subscribed to remain"),
}

_SEARCH: dict[str, str] = {
    "accept": "8.3.3.1: supersedes the Accept header",
    "charset": "8.3.3.2: taken and ignored, answers are always in UTF-8",
    "limit": "8.3.4.4: whole number; without it there is no limit unless one is set (`PACS_SEARCH_MAX_RESULTS`). When more matches than are returned, a Warning 299 says how many more (counted up to 100), and a Link header leads to the next page",
    "offset": "8.3.4.4: whole number; matches that are skipped. Pages that follow each other begin where the last one ended, as long as nothing has come between; of the list of all studies, or those of a range of days, in its own order, any page is found by how many each day has; any other by counting in an index what lies before it, which takes longer the further it is: the cursor of the Link header does not",
    "includefield": "8.3.4.3: keywords, tags or paths with dots, repeated or separated by commas, or `all`; of attributes of a lower level nothing is returned",
    "fuzzymatching": "8.3.4.2: `true`: names by their words in any order, without accents, by beginning or sound, and as without it; as an extension, values of LO, LT, SH, ST, UC and UT without case, so that `StudyDescription=*knee*` finds KNEE (without it case counts there, as PS3.4 C.2.2.2.1 has it)",
    "emptyvaluematching": "8.3.4.5: `true`: an empty value finds what has none; `\"\"` does so without it",
    "multiplevaluematching": "8.3.4.6: `true`: values separated by commas or backslashes, all of which must be there (AE, AS, AT, CS, LO, PN, SH, UC of several values; no wildcards); in attributes of one value any of them. Without it several values of UI and CS mean any of them (extension for CS)",
    "orderby": "extension: keywords or tags of attributes with a column (see the keys that are matched in the database) at the level or above, separated by commas or repeated, `-` before one for descending order. Without it studies come newest first, series and instances by their numbers; either way the order is total and the same every time. By an attribute without an index, or of a level above, the keys of all that matches are sorted for each page, which takes longer the more there are",
    "totalcount": "extension: `true`: the header X-Total-Count says how many matches there are in all",
    "cursor": "extension: where the next page begins, as the Link header (`rel=\"next\"`) has it; a page costs the same wherever it is. Any other search's is refused with 400",
}

_RENDERING: dict[str, str] = {
    "annotation": "8.3.5.1.1: of images, patient writes name (in ideographs too), ID, date of birth and sex at the top left, technique modality, part of the body, kVp, mA, mAs, TR, TE, slice thickness, place and window at the bottom left, white with a black edge; not on pages of what is no image, which a Warning 299 says",
    "quality": f"8.3.5.1.2: from 1 to 100, for JPEG; otherwise {QUALITY}",
    "viewport": f"8.3.5.1.3: `vw,vh` or `vw,vh,sx,sy,sw,sh`, negative `sw` or `sh` flip; at most {MAX_SIDE} a side",
    "window": "8.3.5.1.4: `center,width`, with `linear`, `linear-exact` or `sigmoid` as a third; or the name or id of a preset, the image's modality's where several have it, or of one of the image's own windows or VOI LUTs by its Window Center & Width Explanation (0028,1055) or LUT Explanation (0028,3003), which is after presets of its modality and before those of others; 400 lists the names that the image has (extension)",
    "user": "extension: whose presets and defaults hold before the site's, a key that the caller gives (`/api/presets?user=`); nobody is asked who it is",
    "iccprofile": "8.3.5.1.5, with `displayp3` of later editions: `yes` embeds the profile of the presentation state, of the image or of the frame's optical path, or that of its Color Space (0028,2002), sRGB where it has neither, in JPEG, PNG and WebP; `srgb`, `adobergb`, `rommrgb` and `displayp3` convert the colours from there (perceptual intent) and embed theirs. 406 where the profile to convert from is damaged; greyscale, pages of what is no image, and what cannot carry a profile have none, which a Warning 299 says",
}

# Section of PS3.18, its title, whether it is there, and how.
SECTIONS: tuple[tuple[str, str, str, str], ...] = (
    ("8.3.3", "Content negotiation parameters", "partly", "`accept`; `charset` is ignored"),
    ("8.3.4", "Search parameters", "supported", "see below; an unknown parameter is refused with 400 instead of ignored"),
    ("8.3.5", "Rendering parameters", "partly", "see below"),
    ("8.4", "Header fields", "partly", "Accept, Range, If-None-Match and Content-Type; Prefer in requests for commitment; Accept-Charset is passed over"),
    ("8.5", "Status codes", "partly", "see the table of errors; a search without matches is 200 and an empty list, or 204 where `PACS_SEARCH_EMPTY_STATUS` says so; 206 is not used for searches, Warning 299 says what is left"),
    ("8.6", "Payloads", "supported", "single part and multipart/related"),
    ("8.7.3", "DICOM media types", "partly", "instances as stored (by `transfer-syntax=*` or by name, and where any media type is accepted; so also in Implicit VR Little Endian and Explicit VR Big Endian, which 8.7.3 forbids) or in Explicit VR Little Endian; not compressed anew"),
    ("8.7.4", "Rendered media types", "partly", "pictures, also moving; text/html, text/plain and pages of structured reports; application/pdf, text/plain and pages of encapsulated PDF, drawn by PDFium in a process with limits on time and memory; CDA as text/xml; waveforms as image/svg+xml; HTML, XML and SVG with a Content-Security-Policy that lets nothing run; stored MPEG video with Range, and video/mp4 made of MPEG-2 streams, of transport streams and of multi-frame images where PyAV is installed, in a process with limits too; no image/jp2, no text/rtf"),
    ("8.7.5", "Acceptable media types", "supported", "quality values, wildcards, most specific first; 406 lists what could be had"),
    ("8.8", "Character sets", "partly", "UTF-8 only"),
    ("8.9, H", "Retrieve capabilities", "supported", "OPTIONS of any resource describes it and those below it, of `/` all: WADL, or the same in JSON, where attributes begin with @; with all that can be searched by, also what an administrator has made searchable; Allow"),
    ("8.10", "Notifications", "supported", "event reports on a WebSocket at `/subscribers/{requester}`; those of the time without a connection follow when it opens, at least once each; a browser's Origin must be this server's"),
    ("8.11", "Security and privacy", "not yet", "no authentication; see Security. Pages of other origins (CORS) are those of `PACS_CORS_ORIGINS`, none by default; changes that other pages ask for are refused with 403"),
    ("9", "URI service (WADO-URI)", "partly", f"`{WADO_URI}`, see below"),
    ("10.4", "Retrieve", "partly", "see the resources; no rendered volumes"),
    ("10.5", "Store", "partly", "Part 10 files, and metadata with bulk data in JSON and XML; nothing is coerced, so no Original Attributes Sequence; no image/gif, image/png to be made into pixel data (table 10.5.2-1)"),
    ("10.6", "Search", "supported", "all six resources; JSON, XML, and CSV for people (extension); HEAD; weak ETag and 304 from the archive's change counter; see the kinds of matching"),
    ("10", "Delete", "supported", "as an extension: PS3.18 has no transaction for it; see the resources and Deletion"),
    ("11", "Worklist service (UPS-RS)", "supported", "JSON and XML; see below"),
    ("12", "Non-patient instances", "supported", "all categories, see below; they are in no answer of the studies service"),
    ("13", "Storage commitment", "supported", f"every instance is read again, past the store's cache. 200 at once for at most {AT_ONCE} instances of together {AT_ONCE_BYTES >> 20} MiB, else, and with `Prefer: respond-async`, 202 with Retry-After; flat and by studies, in JSON and XML; 409 for a Transaction UID that is in use"),
    ("14 and later", "Services that came after it", "not yet", ""),
)


def sections(settings: WebSettings | None = None) -> str:
    """The chapter on DICOMweb in Markdown, headings of the third level. `settings` are those of the statement."""
    settings = settings or WebSettings()
    chapters = (
        ("PS3.18, section by section", table(("section", "title", "state", "how"), SECTIONS)),
        (f"Resources under `{settings.path}`", f"{_resources()}\n\n{_MISSING}"),
        ("Media types (PS3.18 8.7)", _media_types()),
        ("Frames by transfer syntax (PS3.18 8.7.3.3)", _frames()),
        ("Search parameters (PS3.18 8.3.4)", _described(SEARCH_PARAMETERS, _SEARCH) + "\n\n" + _KEYS),
        ("Rendering parameters (PS3.18 8.3.5)", _described(RENDERING_PARAMETERS, _RENDERING) + "\n\n" + _rendering()),
        ("Store (PS3.18 10.5)", _store(settings)),
        ("Worklist (PS3.18 11, PS3.4 annex CC)", _worklist()),
        ("Non-patient instances (PS3.18 12)", _non_patient()),
        (f"WADO-URI (PS3.18 9) at `{WADO_URI}`", _uri()),
    )
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in chapters)


_MISSING = (
    "HEAD answers as GET without the body, OPTIONS says what there is; any other method gets 405. Every error has a JSON body with `status`, `error`,"
    " `reference` and `todo`."
)

_KEYS = (
    "Everything else is an attribute: a keyword or eight hex digits, with dots into sequences. Which are matched, and which are"
    " returned unasked, is in the table of keys; RetrieveURL (0008,1190) is always returned. UI and CS values are also"
    " separated by commas, without being asked. A private attribute is matched and returned with its creator beside it"
    " (`00091001=…&00090010=ACME`), whatever block the creator has in each instance. Any other attribute of an instance, a"
    " private one, or one in a sequence can be made searchable while the server runs (`pacs attributes add`): it then has an"
    " index of its own, at the level where it lives, and queries at the levels above find what has such instances."
)


def _resources() -> str:
    rows = []
    for name, (section, text) in HANDLERS.items():
        found = [one for one in RESOURCES if name in one.methods.values()]
        methods = {method for one in found for method, answers in one.methods.items() if answers == name}
        rows.append((_paths(found), ", ".join(sorted(methods)), section, text))
    return table(("path", "methods", "section", "what is there"), rows)


def _paths(found: Iterable[Resource]) -> str:
    return "<br>".join(f"`{one.path.replace(':path}', '}')}`" for one in found)


def _media_types() -> str:
    bulk = negotiation.bulk(OCTETS)
    rows = (
        ("studies, series", _whole_instances(single=False)),
        ("instances", _whole_instances(single=True)),
        ("metadata", _offers(negotiation.METADATA)),
        ("searches", _offers(negotiation.SEARCH)),
        ("answer of store", _offers(negotiation.STORE) + "; the first where none is accepted"),
        ("body of store", f'`{DICOM}`, `{RELATED}; type="{DICOM}"`; `{RELATED}` with type="{DICOM_JSON}" or "{DICOM_XML}"; without bulk data these also alone'),
        ("rendered, thumbnails", _offers(negotiation.PICTURES) + "; what is no image as " + _offers(negotiation.DOCUMENTS) + "; several frames in multipart/related"),
        ("bulk data", _offers(bulk) + f"; videos also as video/mpeg or video/mp4, documents as {', '.join(sorted(DOCUMENT_TYPES))}"),
    )
    text = table(("resource", "media types, the first where several would do"), rows)
    return f"{text}\n\nRange and ETag: instances, frames, bulk data, pictures; not whole studies and series."


def _whole_instances(*, single: bool) -> str:
    offers = [one for one in negotiation.instances(EXPLICIT_BIG, single=single) if not one.made]
    text = _offers(offers).replace(f"transfer-syntax={EXPLICIT_BIG}", "transfer-syntax={as stored}")
    return f"{text}; by name also encoded without loss: {', '.join(LOSSLESS_TARGETS)}"


def _frames() -> str:
    rows = []
    for syntax in SYNTAXES.values():
        if syntax.coding in DECODERS:
            offers = [one for one in negotiation.frames(syntax, decodable=True, single=True) if not (one.related or one.made)]
            rows.append((syntax.name, _offers(offers)))
    text = table(("stored in", "can be had as, the first by default"), rows)
    return (
        f'{text}\n\nEach in multipart/related, `type="…"`, and a single frame also alone. When named: by its UID or by `*`.'
        " Whatever frames are stored can also be had encoded without loss, where the syntax holds such pixels, in the media type of"
        f" each or as octets by its UID: {', '.join(f'{SYNTAXES[uid].name} ({SYNTAXES[uid].media_type})' for uid in LOSSLESS_TARGETS)}."
        " The default of PS3.18 8.7.3 is Explicit VR Little Endian whatever is stored; here it is the first of the row. Other stored"
        " syntaxes have no frames to retrieve."
    )


_STATES = (
    "Presentation states: greyscale (1.2.840.10008.5.1.4.1.1.11.1), colour (11.2), pseudo-colour (11.3), blending (11.4), XA/XRF (11.5), advanced blending"
    " (11.8) and variable modality LUT (11.12); planar MPR and volume rendering (11.6, 11.7, 11.9 to 11.11) and other states are refused with 406, and have an icon as thumbnail. Of blended images those below, or those with the geometry for display, are the pages; on each"
    " lies of every other input the nearest image of the same frame of reference that is parallel, not farther off than half its slice thickness (or 1 mm), interpolated on its"
    " grid; images without geometry go by their order; padding and what lies outside is transparent. Spatial registrations, thresholds and time series are refused with 406. `…/rendered` is the first image that the state shows, all of them where multipart/related is accepted,"
    " `…/frames/{list}/rendered` those by their number in the state's order. `window` is refused with 400; a source region of `viewport` is"
    " one of the picture that the state makes. Modality LUT, VOI LUT and presentation LUT are those of the state, none of the image (PS3.4 N.2);"
    " shutters of all four shapes, in colour where picture and state have one (Shutter Presentation Color CIELab Value); displayed area with pixel aspect and MAGNIFY, TRUE SIZE as SCALE TO FIT; rotation and flip; graphics"
    " (POINT, POLYLINE, INTERPOLATED, CIRCLE, ELLIPSE, filled, with colour, thickness, dashes and opacity) and words (upright, aligned as their style or box says, with anchor) in PIXEL and DISPLAY units; compound"
    " graphics by the graphic and text objects that come with them (Compound Graphic Instance ID), those without any are named as not drawn; overlays that a layer activates, of the state or the image; layers in their order and colour; mask subtraction (AVG_SUB, TID) after the modality LUT of the state, 406 where the image has not its frames. XA/XRF states frame by frame:"
    " the mask item of its Applicable Frame Range, viewing mode (NAT and what is not known as stored), Mask Visibility Percentage, pixel shifts by frame and region, Pixel Intensity Relationship LUT (TO_LOG, its own for mask and contrast),"
    f" shutters, pace and skipped frames of films, and Display Filter Percentage, 100 of which doubles how much a pixel differs from the mean of the {AROUND} by {AROUND} around it; more than {MOST_REGIONS} shifted regions or {MOST_SHUTTERS} shutters of one frame are refused with 406. Not:"
    " MATRIX units, fonts and shadows of text styles, stippled areas. A mark that cannot be drawn is named at the foot of"
    " the picture. Letters are Noto Sans and Noto Sans CJK; of other scripts those of the fonts that the machine has; Hebrew and Arabic"
    " run from right to left, Arabic joined where the machine has libfribidi."
)


_MASKS = (
    "Frames whose Recommended Viewing Mode is SUB (of the Mask module, or of the Frame Display Sequence) have their mask subtracted (PS3.3 C.7.6.10): AVG_SUB, TID, REV_TID,"
    " Applicable Frame Range, Contrast Frame Averaging, Mask Visibility Percentage, and Mask Sub-pixel Shift (of the item, else of the frame by Subtraction Item ID), which moves the mask down and to the left (PS3.3 C.7.6.10.1.2)."
    " All others, and masks themselves, are shown as they are stored. Differences are those of stored values with Pixel Intensity Relationship LOG or DISP,"
    " of 2^bits - 1 times log(1 + value) / log(2^bits) with LIN, and else of the modality LUT's output. `window` is one of differences; without it the image's own, unless that begins at zero or above or the values are"
    " LIN; else one that reaches equally far to both sides of zero. At most 64 frames are averaged."
)


def _rendering() -> str:
    names = ", ".join(f"`{preset.id}`" for preset in built_in())
    return (
        "Applied in order: modality LUT or rescale, VOI LUT or window (the request's, else the image's first possible one: where none is, its Window Width below 1, a Warning 299 says so, else the default preset for its"
        " modality and body part, else one made from its values), inversion for MONOCHROME1, palette, shutters (of the frame, where it has its own), overlays of groups 6000 to 601E and of unused pixel bits in white"
        " (regions of interest by their outline). Grey frames whose Pixel Presentation (0008,9205) is COLOR (their own of the frame type macro, else the image's) show stored values from the"
        " second value of the Palette Color Lookup Table Descriptor on in the colours of the supplemental palette (PS3.3 C.7.6.19), which neither a window nor a greyscale or"
        " blending presentation state changes; values below in grey, of which alone an automatic window is made. COLOR_RANGE and COLOR_REF are shown in grey."
        " JPEG frames that are cut off are refused, and so are those whose coded samples are damaged, where that can be seen: codes that cannot be, too few samples or too many"
        " (of single bits that have changed about a third, of four bytes half, of longer stretches between a third and two thirds, of a missing quarter of a frame each). What came of the rest are codes of as many samples again, which only a digest tells"
        " from right ones: `pacs verify` does for what has changed here. Frames sent as they are stored are not looked at."
        " Without `iccprofile` colours are sent as they are stored, without a profile. Aspect ratio"
        f" is kept. Presets that come with the archive, to which a site and users add their own: {names}. Auto is for MR and CR what images of more than eight bits without a window are shown in, from the 0.5th to the 99.5th percentile of a frame's values (of a moving picture those of its middle frame); the viewer, which knows no such presets, has it not. Those in SUV (by body weight) are calculated of PET images in BQML (Decay Correction START or ADMIN), GML of type BW, and CNTS with the factors of Philips, as QIBA has published; of Legacy Converted Enhanced PET images by the same of their Unassigned Converted Attributes; of Enhanced PET images by their Real World Value Mapping (0040,9096) to g/ml{{SUVbw}}, or to Bq/ml with the dose in MBq and Decay Correction DateTime (0018,9701). 400 says what is missing where that cannot be.\n\n{_MASKS}\n\n{_STATES}"
    )


def _store(settings: WebSettings) -> str:
    warnings = ", ".join(f"{code:04X} ({', '.join(_flags(code))})" for code in sorted(set(WARNING_REASONS.values())))
    most = settings.max_request_bytes
    return (
        "200 when all instances were stored, 202 when some were or when one has a warning, 409 when none was, or 413, 503 or"
        " 507 where that is the reason for all; 400 and 415 for a body that cannot be read. Failure Reasons (0008,1197) are the C-STORE statuses of the table of"
        f" errors. Warning Reasons (0008,1196): {warnings}. What each is about, and which attribute, is in the Warning header. At most"
        f" {settings.parts.parts} parts in a request, {'of any total size' if most is None else f'{most} bytes'}; compressed bodies (Content-Encoding)"
        " are refused. Of a body that breaks off, the instances that are complete are stored.\n\n"
        "Metadata and bulk data: the metadata in one JSON array or in one XML document to an instance, normally first; each"
        " bulk data in a part whose Content-Location is its BulkDataURI (compared by path and query) or whose Content-ID is its"
        " `cid:`; nothing is fetched from anywhere. Stored in Explicit VR Little Endian, text in UTF-8, or in the transfer"
        " syntax of the frames: each in a part of its own, all with the same Content-Location, in order, of type"
        f" {', '.join(f'`{one}`' for one in sorted(FRAMES))}; a video in one part as {', '.join(f'`{one}`' for one in sorted(VIDEOS))}."
        " What a JPEG, JPEG-LS or JPEG 2000 stream is, it says itself; `transfer-syntax` in the part's Content-Type, or (0002,0010),"
        " (0008,3002) in the metadata, must agree with it. The Image Pixel module is taken from the stream where the metadata has none,"
        " the Basic or Extended Offset Table is made, MIME Type and Length of an Encapsulated Document are filled in. At most"
        f" {METADATA_BYTES >> 20} MiB of metadata to an instance, {WAITING_BYTES >> 20} MiB waiting for bulk data at any time."
    )


def _worklist() -> str:
    rows = []
    for rule in RULES:
        created = {"-": "made here", "empty": "empty"}.get(rule.create, f"type {rule.create}")
        rows.append((rule.keyword, created, "yes" if rule.change else "no", {"O": "", "R": "both", "P": "COMPLETED", "X": "CANCELED"}[rule.final]))
    text = table(("attribute (PS3.4 table CC.2.5-3)", "create", "update", "needs a value in"), rows)
    return (
        f"{text}\n\nWhat is missing of type 2 is added empty, WorklistLabel with a value, and a Warning says so. Required in sequences"
        " of final states: what the table has as R, P and X in the progress and performed procedure sequences. A cancellation without"
        " a time or a reason gets the time and (110513, DCM, Discontinued for unspecified reason). Attributes that the table does not have are kept as they"
        " come. All keys are matched, also in sequences. 400 for a request that would be wrong in any state, and for a missing Transaction UID; 404 for"
        " a workitem that there is not, or not any more; 409 for one that is not in the state for it. Deletion locks are granted to"
        " everybody; workitems that have ended are removed after a time, unless locked."
    )


def _non_patient() -> str:
    rows = (
        (f"`/{one.name}`", ", ".join(one.sop_classes), f"PS3.4 {one.section}", ", ".join(map(name_of, sorted(one.tags))))
        for one in CATEGORIES.values()
    )
    text = table(("category", "SOP classes", "information model", "returned unasked"), rows)
    return (
        f"{text}\n\nEvery attribute is matched, row by row; parameters as of other searches. The information models are there for C-FIND, C-MOVE and C-GET too. Instances come in by C-STORE, STOW-RS at"
        " `/studies` and import too; RetrieveURL leads to their category. 409, with A900 as the reason, for what is stored under a"
        " category or a UID that is not its own. `/protocol-approvals` is as CP-2551 has it."
    )


_URI: dict[str, str] = {
    "requestType": "`WADO`, and nothing else",
    **dict.fromkeys(("studyUID", "seriesUID", "objectUID"), "required"),
    "contentType": "media types, the first that is possible by quality wins, whatever Accept says; without it Accept, then the default: a picture of an instance with one frame, `text/html` of a report, `application/dicom` of all others",
    "charset": "taken and ignored",
    "transferSyntax": "a UID or `*` (as stored); without it Explicit VR Little Endian; for `application/dicom` only",
    "anonymize": "`yes`, for `application/dicom` only: by the Basic Application Level Confidentiality Profile (PS3.15 annex E) without options, UIDs and pseudonyms the same each time; 406 for what cannot be de-identified: documents, burned-in annotations, images of kinds that often have text in their pixels unless Burned In Annotation (0028,0301) is NO, overlays in pixels",
    "annotation": "as in the rendering parameters",
    "rows": "with `columns`, or alone: what the picture is fitted into, its shape kept",
    "columns": "likewise",
    "region": "`xmin,ymin,xmax,ymax` in parts of the image",
    "windowCenter": "together with `windowWidth`",
    "windowWidth": "together with `windowCenter`",
    "window": "extension: the name or id of a preset, as in the rendering parameters; not together with the two before",
    "user": "extension: whose presets, as in the rendering parameters",
    "imageQuality": "from 1 to 100, for JPEG",
    "frameNumber": "from 1",
    "presentationUID": "the presentation state that the image is shown through; not together with a window or region",
    "presentationSeriesUID": "its series; together with `presentationUID`",
}


def _uri() -> str:
    return _described(URI_PARAMETERS, _URI) + "\n\nAny other parameter is passed over. What is no image comes as in the rendered resources."


def _flags(code: int) -> Iterable[str]:
    return sorted(flag for flag, reason in WARNING_REASONS.items() if reason == code)


def _described(names: Iterable[str], texts: dict[str, str]) -> str:
    return table(("parameter", "PS3.18, and how"), ((f"`{name}`", texts[name]) for name in sorted(names)))


def _offers(offers: Iterable[Offer]) -> str:
    return ", ".join(f"`{offer}`" + (" (when named)" if offer.only_named else "") for offer in offers)
