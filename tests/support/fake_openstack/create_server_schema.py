"""Nova's JSON schema of a create request, with its messages."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from typing import Any

from tests.support.fake_openstack.http_service import Failure

Microversion = tuple[int, int]

TRUE = (True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes")
FALSE = (False, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no")

MAX_TEXT = 255
MAX_USER_DATA = 65535
"""Characters of base64."""
MAX_TAG = 60
MAX_TAGS = 50

KEYS = {
    *("name", "imageRef", "flavorRef", "adminPass", "metadata", "networks", "OS-DCF:diskConfig"),
    *("accessIPv4", "accessIPv6", "availability_zone", "block_device_mapping_v2", "config_drive"),
    *("key_name", "min_count", "max_count", "return_reservation_id", "security_groups", "user_data"),
}
NEWER_KEYS: dict[str, Microversion] = {
    "description": (2, 19),
    "tags": (2, 52),
    "trusted_image_certificates": (2, 63),
    "host": (2, 74),
    "hypervisor_hostname": (2, 74),
    "hostname": (2, 90),
}
DEVICE_KEYS = {
    *("source_type", "uuid", "image_id", "destination_type", "guest_format", "device_type", "disk_bus"),
    *("boot_index", "volume_size", "delete_on_termination", "device_name", "no_device", "snapshot_id"),
    *("volume_id", "connection_info"),
}
NEWER_DEVICE_KEYS: dict[str, Microversion] = {"tag": (2, 42), "volume_type": (2, 67)}
SOURCES = ["volume", "image", "snapshot", "blank"]
NETWORKS_REQUIRED: Microversion = (2, 37)
PERSONALITY_GONE: Microversion = (2, 57)


def check(body: dict[str, Any], microversion: Microversion) -> dict[str, Any]:
    """The request's ``server``, checked.

    Raises:
        Failure: 400.
    """
    if "server" not in body:
        raise Failure(400, "'server' is a required property")
    asked: dict[str, Any] = body["server"]
    _check_type("server", asked, dict, "object")
    _check_keys(asked, microversion)
    _check_name(asked["name"])
    _check_user_data(asked.get("user_data", ""))
    _check_image_reference(asked.get("imageRef", ""))
    _check_networks(asked.get("networks", "auto"), microversion)
    for number, group in enumerate(asked.get("security_groups", [])):
        _check_type(number, group, dict, "object")
    _check_tags(asked.get("tags", []))
    check_metadata(asked.get("metadata", {}))
    for count in ("min_count", "max_count"):
        if int(asked.get(count, 1)) < 1:
            raise invalid(count, asked[count], f"{asked[count]} is less than the minimum of 1")
    drive = asked.get("config_drive", False)
    if drive not in (*TRUE, *FALSE):
        raise invalid("config_drive", drive, f"{drive!r} is not one of {[*TRUE, *FALSE]}")
    for number, device in enumerate(asked.get("block_device_mapping_v2", [])):
        _check_device(number, device, microversion)
    return asked


def check_metadata(metadata: Any) -> None:
    """Check the lengths and characters of keys and values.

    Raises:
        Failure: 400.
    """
    _check_type("metadata", metadata, dict, "object")
    for key, value in metadata.items():
        if not re.fullmatch(r"[a-zA-Z0-9\-_:. ]{1,255}", key):
            complaint = f"{key!r} does not match any of the regexes: '^[a-zA-Z0-9-_:. ]{{1,255}}$'"
            raise invalid("metadata", metadata, complaint)
        _check_text(key, value, MAX_TEXT)


def invalid(field: str | int, value: Any, complaint: str) -> Failure:
    """The error of an invalid field."""
    return Failure(400, f"Invalid input for field/attribute {field}. Value: {value}. {complaint}")


def unexpected(names: list[str]) -> str:
    """The message about unknown keys."""
    was = "was" if len(names) == 1 else "were"
    return f"Additional properties are not allowed ({', '.join(map(repr, names))} {was} unexpected)"


def bad_device(reason: str) -> Failure:
    """The error of an invalid block device."""
    return Failure(400, f"Block Device Mapping is Invalid: {reason}")


def is_uuid(value: Any) -> bool:
    """Whether it is a UUID, with or without dashes."""
    try:
        uuid.UUID(str(value))
    except ValueError:
        return False
    return True


def _check_type(field: str | int, value: Any, kind: type, name: str) -> None:
    if not isinstance(value, kind):
        raise invalid(field, value, f"{value!r} is not of type '{name}'")


def _check_text(field: str | int, value: Any, longest: int, shortest: int = 0) -> None:
    _check_type(field, value, str, "string")
    if len(value) < shortest:
        raise invalid(field, value, f"{value!r} is too short")
    if len(value) > longest:
        raise invalid(field, value, f"{value!r} is too long")


def _check_keys(asked: dict[str, Any], microversion: Microversion) -> None:
    known = KEYS | {name for name, since in NEWER_KEYS.items() if microversion >= since}
    if microversion < PERSONALITY_GONE:
        known = known | {"personality"}
    _check_known("server", asked, known)
    required = ["name", "flavorRef"]
    if microversion >= NETWORKS_REQUIRED:
        required.append("networks")
    for name in required:
        if name not in asked:
            raise invalid("server", asked, f"'{name}' is a required property")


def _check_known(field: str | int, given: dict[str, Any], known: set[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise invalid(field, given, unexpected(unknown))


def _check_name(name: Any) -> None:
    _check_text("name", name, MAX_TEXT, shortest=1)
    if name != name.strip() or not name.isprintable():
        reason = "printable characters. Can not start or end with whitespace."
        raise Failure(400, f"An invalid 'name' value was provided. The name must be: {reason}")


def _check_user_data(user_data: Any) -> None:
    _check_text("user_data", user_data, MAX_USER_DATA)
    try:
        base64.b64decode(user_data)
    except (binascii.Error, ValueError):
        raise invalid("user_data", user_data, f"{user_data!r} is not a 'base64'") from None


def _check_image_reference(reference: Any) -> None:
    if reference != "" and not is_uuid(reference):
        complaint = f"{reference!r} is not valid under any of the given schemas"
        raise invalid("imageRef", reference, complaint)


def _check_networks(networks: Any, microversion: Microversion) -> None:
    if networks in ("auto", "none"):
        return
    if not isinstance(networks, list) or not all(is_uuid(each.get("uuid")) for each in networks):
        if microversion < NETWORKS_REQUIRED:
            raise Failure(400, f"Bad networks format: network uuid is not in proper format ({networks})")
        complaint = f"{networks!r} is not valid under any of the given schemas"
        raise invalid("networks", networks, complaint)


def _check_tags(tags: list[Any]) -> None:
    if len(tags) > MAX_TAGS:
        raise invalid("tags", tags, f"{tags!r} is too long")
    for number, tag in enumerate(tags):
        _check_text(number, tag, MAX_TAG, shortest=1)
        if re.search("[,/]", tag):
            raise invalid(number, tag, f"{tag!r} does not match '^[^,/]*$'")


def _check_device(number: int, device: dict[str, Any], microversion: Microversion) -> None:
    newer = {name for name, since in NEWER_DEVICE_KEYS.items() if microversion >= since}
    _check_known(number, device, DEVICE_KEYS | newer)
    source, size = device.get("source_type"), device.get("volume_size")
    if source is not None and source not in SOURCES:
        raise invalid("source_type", source, f"{source!r} is not one of {SOURCES}")
    if size is not None and not re.fullmatch(r"\d+", str(size)):
        raise invalid("volume_size", size, f"{size!r} does not match '^[0-9]+$'")
