"""`pacs ae`: the DICOM nodes that this archive knows, what they may do and whether they answer; and its own AE titles."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacs.commands.console import AsJson, begin, print_json, say, secret_line
from pacs.logs import escaped
from storage.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from storage.coercion.rules import Rule
    from storage.index.ae import AeTitle, OwnAe, Rights
    from storage.index.identities import Identity

app = typer.Typer(
    help="DICOM nodes and what they may do, who wants to connect, the log of associations, and our own AE titles.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Title = Annotated[str, typer.Argument(help="AE title of the node.")]


_RULE = "Rule for what it sends by C-STORE, such as 'set InstitutionName \"St. Mary\" if absent'; all rules anew, in their order; or none."
_PROFILE = (
    "How what is sent to it by C-STORE is de-identified (PS3.15 annex E): basic, with any of retain-uids, retain-dates or modify-dates,"
    " retain-device, retain-institution, retain-patient-characteristics, clean-descriptors, unchecked-pixels, keep-originals, separated by"
    " commas; or none. It stays where nothing is given."
)

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="RIGHT", help="echo, store, find, retrieve, commit, worklist, mpps, ups, reject; or all."),
]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the known nodes."""
    from pacs import compose
    from storage.index.ae import ae_titles, words_of
    from storage.index.identities import identities

    with compose.opened(begin(), migrate=True) as found:
        entities = ae_titles(found.archive.index)
        known = identities(found.archive.index)
    if as_json:
        print_json([{**_plain(entity), "identity": _shown(known.get(entity.title))} for entity in entities])
        return
    for entity in entities:
        where = f"{entity.place or 'only calls'}{' with TLS' if entity.tls and entity.port else ''}"
        what = [words_of(entity.rights) or "nothing", *(f"from {one}" for one in entity.addresses)]
        what += [f"is told a {known[entity.title]}"] if entity.title in known else []
        what += ["with its certificate"] if entity.certificates else ["over TLS"] if entity.tls_only else []
        say(f"{entity.title:16}  {where}  {', '.join(what)}  {escaped(entity.description)}".rstrip())
    if not entities:
        say("No nodes yet: pacs ae add TITLE HOST PORT")


@app.command()
def add(
    title: Title,
    host: Annotated[str, typer.Argument(help="Its name or address; without, it only calls this archive.")] = "",
    port: Annotated[int, typer.Argument(help="Its DIMSE port.")] = 0,
    description: Annotated[str | None, typer.Option(help="What it is, for people.")] = None,
    rights: Annotated[
        str | None, typer.Option(help="What it may do, separated by commas, as pacs ae rights has them; all for a new node.")
    ] = None,
    address: Annotated[
        list[str] | None, typer.Option(help="Address or network that it may call from, or any, as for a new node.")
    ] = None,
    syntax: Annotated[
        list[str] | None, typer.Option(help="UID of a transfer syntax that it likes best to be sent, the best first; or any.")
    ] = None,
    character_set: Annotated[
        str | None, typer.Option(help="Specific Character Set to assume of instances and queries that name none; - for none.")
    ] = None,
    coerce: Annotated[list[str] | None, typer.Option(help=_RULE)] = None,
    silent_coercion: Annotated[
        bool | None, typer.Option(help="Whether C-STORE is answered with success, not a warning, where rules have changed something.")
    ] = None,
    tls: Annotated[bool | None, typer.Option(help="Whether it is called over TLS.")] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            help="PEM file with the only certificate that it may show, or that of the authority that has signed it,"
            " instead of PACS_DIMSE_TLS_CA; - for none."
        ),
    ] = None,
    send_on: Annotated[
        list[str] | None, typer.Option(help="AE title of a node to which what it sends here is sent on; or none, as for a new node.")
    ] = None,
    tls_only: Annotated[
        bool | None, typer.Option("--tls-only/--any-transport", help="Whether it may call over TLS alone.")
    ] = None,
    certificate: Annotated[
        list[str] | None,
        typer.Option(help="With which it may call over TLS, and with no other: a PEM file or a SHA-256 fingerprint; or any."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Root of its DICOMweb service, instead of HOST and PORT: it is sent to by STOW-RS; - for none.")
    ] = None,
    login: Annotated[
        str | None,
        typer.Option(help="What lets us in there: NAME of the environment variable LIGHTBOX_LOGIN_NAME, with 'Bearer TOKEN' or 'USER:PASSWORD'; - for none."),
    ] = None,
) -> None:
    """Add a node, or change of the one of this title what is given."""
    from pacs import compose
    from storage.index.ae import AeTitle, add_ae_title, ae_title_of, rights_of

    given: dict[str, Any] = {"description": description}
    given |= {"rights": None if rights is None else rights_of(_split(rights))}
    given |= {"addresses": _several(address), "syntaxes": _several(syntax)}
    changed: dict[str, Any] = {"character_set": None if character_set is None else "" if character_set == "-" else character_set}
    changed |= {"coercion": _rules(coerce), "silent_coercion": silent_coercion}
    given |= {"tls": tls, "tls_certificate": None if tls_certificate is None else _pem(tls_certificate)}
    given |= {"destinations": _several(send_on, "none")}
    given |= {name: "" if value == "-" else value for name, value in (("url", url), ("login", login))}
    given |= {"tls_only": tls_only, "certificates": _certificates(certificate)}
    if host or port:
        given |= {"host": host, "port": port}
    with compose.opened(begin(), migrate=True) as found:
        known = ae_title_of(found.archive.index, title) or AeTitle(title, "", 0)
        given["quirks"] = replace(known.quirks, **{name: value for name, value in changed.items() if value is not None})
        node = replace(known, **{name: value for name, value in given.items() if value is not None})
        add_ae_title(found.archive.index, node)
    say(f"{title} is at {node.place}; try it with: pacs ae echo {title}" if node.place else f"{title} may call this archive")


@app.command()
def rights(title: Title, names: Names = None, as_json: AsJson = False) -> None:
    """Show what a node may do, or set it; +RIGHT and -RIGHT (behind --) change one."""
    from pacs import compose
    from storage.index.ae import add_ae_title, ae_title_of, words_of

    with compose.opened(begin(), migrate=True) as found:
        index = found.archive.index
        known = ae_title_of(index, title)
        if known is None:
            raise NotFound(f"there is no node {title!r}; pacs ae list shows those there are")
        if names:
            known = replace(known, rights=_changed(known.rights, names))
            add_ae_title(index, known)
    if as_json:
        print_json(_plain(known)["rights"])
    else:
        say(f"{known.title} may {words_of(known.rights) or 'do nothing'}")


@app.command()
def identity(
    title: Title,
    user: Annotated[str, typer.Option(help="User name.")] = "",
    passcode: Annotated[bool, typer.Option("--passcode", help="With a passcode, which is asked for, or read from standard input.")] = False,
    token: Annotated[bool, typer.Option("--token", help="A JSON web token, which is asked for, or read from standard input.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="Ask the node to confirm that it believes it.")] = False,
    none: Annotated[bool, typer.Option("--none", help="Say nothing of who we are any more.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show or set who we say that we are (user identity) when we call a node; what is secret is never shown."""
    from pacs import compose
    from storage.index.ae import ae_title_of
    from storage.index.identities import Identity, identity_of, set_identity

    if none and (user or passcode or token):
        raise BadRequest("give either --none, or who we are")
    changed = None
    if user or passcode or token:
        secret = secret_line("Passcode" if passcode else "Token") if passcode or token else ""
        changed = Identity(user, secret if passcode else "", secret if token else "", confirm)
    elif confirm:
        raise BadRequest("say what the node is to confirm: --user or --token")
    with compose.opened(begin(), migrate=True) as found:
        index = found.archive.index
        if ae_title_of(index, title) is None:
            raise NotFound(f"there is no node {title!r}; pacs ae list shows those there are")
        if changed or none:
            set_identity(index, title, changed)
        known = identity_of(index, title)
    if as_json:
        print_json(_shown(known))
    else:
        say(f"{title} is told {f'a {known}' if known else 'nothing'} of who we are")


def _shown(identity: Identity | None) -> dict[str, Any] | None:
    """Without what is secret."""
    return {"kind": identity.kind, "user": identity.user, "confirm": identity.confirm} if identity else None


def _changed(rights: Rights, names: list[str]) -> Rights:
    from storage.index.ae import rights_of

    words = [word for name in names for word in _split(name)]
    signed = [word for word in words if word[0] in "+-"]
    if signed and len(signed) < len(words):
        raise BadRequest("give either rights, or changes such as +find -store")
    if not signed:
        return rights_of(words)
    more = rights_of(word[1:] for word in signed if word[0] == "+")
    less = rights_of(word[1:] for word in signed if word[0] == "-")
    return (rights | more) - less


def _several(given: list[str] | None, nothing: str = "any") -> tuple[str, ...] | None:
    return None if not given else () if given == [nothing] else tuple(given)


def _rules(given: list[str] | None) -> tuple[Rule, ...] | None:
    from storage.coercion.rules import rules_of

    return None if not given else () if given == ["none"] else rules_of(given)


def _pem(file: Path) -> str:
    if str(file) == "-":
        return ""
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a PEM file"
        raise BadRequest(f"the certificate {file} cannot be read: {reason}") from error


def _certificates(given: list[str] | None) -> tuple[str, ...] | None:
    """Each as a fingerprint or as what is in its file; `add_ae_title` makes fingerprints of both."""
    found = _several(given)
    return found and tuple(_pem(Path(one)) if Path(one).is_file() else one for one in found)


def _split(words: str) -> list[str]:
    return [word for word in words.replace(",", " ").split() if word]


def _plain(entity: AeTitle | OwnAe) -> dict[str, Any]:
    """Without what JSON has not."""
    plain = asdict(entity)
    rules = [str(rule) for rule in (entity.coercion if "coercion" in plain else entity.quirks.coercion)]  # type: ignore[union-attr]
    (plain if "coercion" in plain else plain["quirks"])["coercion"] = rules
    if "profile" in plain:
        plain["deidentify"] = plain.pop("profile") and entity.profile.listed()  # type: ignore[union-attr]
    if "rights" in plain:
        plain["rights"] = [right for right in _every_right() if right in plain["rights"]]
    return plain


def _every_right() -> Iterable[str]:
    from storage.index.ae import Right

    return Right


@app.command()
def remove(title: Title) -> None:
    """Remove a node."""
    from pacs import compose
    from storage.index.ae import remove_ae_title

    with compose.opened(begin(), migrate=True) as found:
        if not remove_ae_title(found.archive.index, title):
            raise NotFound(f"there is no node {title!r}; pacs ae list shows those there are")
    say(f"{title} is removed")


@app.command()
def echo(
    title: Title,
    host: Annotated[str, typer.Option(help="Its name or address, where it is not in the list.")] = "",
    port: Annotated[
        int, typer.Option(help="Its DIMSE port, where it is not in the list.", min=0, max=65535)
    ] = 0,
    tls: Annotated[
        bool | None, typer.Option(help="Whether it is called over TLS, where that is not as in the list.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a node for a C-ECHO, and say step by step how far that came."""
    from pacs import compose, diagnosis
    from storage.index.ae import AeTitle, ae_title_of
    from storage.index.identities import identity_of

    settings = begin()
    known = identity = None
    if not (host and port):
        with compose.opened(settings, migrate=True) as found:
            known = ae_title_of(found.archive.index, title)
            # It is for the host that is in the list alone.
            identity = None if host else identity_of(found.archive.index, title)
        if known is None or not (known.port or known.url):
            text = "there is no node" if known is None else "no host and port are known of"
            raise NotFound(f"{text} {title!r}: pacs ae add {title} HOST PORT, or give --host and --port")
    node = known or AeTitle(title, host, port)
    node = replace(node, host=host or node.host, port=port or node.port, tls=node.tls if tls is None else tls)
    steps = []
    for step in diagnosis.echo_node(node, identity, calling=settings.ae_title, credentials=settings.tls_credentials):
        steps.append(step)
        if not as_json:
            say(
                f"{'ok ' if step.ok else 'no '} {step.name:20}  {escaped(step.text)}  ({step.milliseconds:.0f} ms)"
            )
    if as_json:
        print_json([asdict(step) for step in steps])
    sys.exit(0 if steps[-1].ok else 1)


@app.command("own")
def own(as_json: AsJson = False) -> None:
    """List the AE titles of this archive: PACS_AE_TITLE, and those that were added."""
    from pacs import compose
    from pacs.ae_titles import own_titles

    settings = begin()
    with compose.opened(settings, migrate=True) as found:
        titles = own_titles(found.archive.index, settings.ae_title)
    if as_json:
        print_json([_plain(one) for one in titles])
        return
    for one in titles:
        rules = f"; {len(one.coercion)} rules of coercion" if one.coercion else ""
        rules += f"; de-identifies: {', '.join(one.profile.listed())}" if one.profile else ""
        callers = ", ".join(one.callers) or "whoever is known"
        unknown = one.unknown_callers or settings.unknown_callers_now
        say(f"{one.title:16}  {callers}; unknown callers: {unknown}{rules}  {escaped(one.description)}".rstrip())


@app.command("own-add")
def own_add(
    title: Annotated[str, typer.Argument(help="AE title that this archive is to answer to.")],
    caller: Annotated[
        list[str] | None, typer.Option(help="AE title that may call it; all that may anew; or any, for whoever is known. They stay where none is given.")
    ] = None,
    unknown_callers: Annotated[
        str | None, typer.Option(help="accept, ask or refuse, instead of what PACS_UNKNOWN_CALLERS says; or setting, for what that says.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="What it is for, for people.")] = None,
    deidentify: Annotated[
        str | None, typer.Option(help=_PROFILE)
    ] = None,
    coerce: Annotated[
        list[str] | None, typer.Option(help="Rule for what is sent to it by C-STORE, after those of the sender; all rules anew; or none. They stay where none is given.")
    ] = None,
) -> None:
    """Answer to a further AE title, or change one: what is not given stays as it is."""
    from pacs import compose
    from storage.deidentification.profile import profile_of
    from storage.index.ae import OwnAe, UnknownCallers, add_own_ae, own_aes

    if unknown_callers not in (None, "setting", *UnknownCallers):
        raise BadRequest(f"unknown callers are one of {', '.join(UnknownCallers)}, or setting")
    given: dict[str, Any] = {
        "description": description,
        "callers": _several(caller),
        "coercion": _rules(coerce),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if unknown_callers:
        changes["unknown_callers"] = None if unknown_callers == "setting" else UnknownCallers(unknown_callers)
    if deidentify is not None:
        changes["profile"] = profile_of([] if deidentify == "none" else _split(deidentify))
    with compose.opened(begin(), migrate=True) as found:
        known = next((one for one in own_aes(found.archive.index) if one.title == title.strip(" ")), OwnAe(title))
        add_own_ae(found.archive.index, replace(known, **changes))
    say(f"this archive answers to {title}")


@app.command("own-remove")
def own_remove(title: Annotated[str, typer.Argument(help="AE title that was added.")]) -> None:
    """Answer to an AE title no longer; of PACS_AE_TITLE, forget who may call it."""
    from pacs import compose
    from storage.index.ae import remove_own_ae

    with compose.opened(begin(), migrate=True) as found:
        if not remove_own_ae(found.archive.index, title):
            raise NotFound(f"{title!r} was not added; pacs ae own shows those there are")
    say(f"{title} is removed")
