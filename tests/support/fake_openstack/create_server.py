"""Nova's checks of a create request, in Nova's order and with its messages."""

from __future__ import annotations

import base64
from typing import Any

from tests.support.fake_openstack import create_server_schema
from tests.support.fake_openstack.cloud import Cloud, Flavor, Image, Network, Server
from tests.support.fake_openstack.create_server_schema import Microversion, bad_device
from tests.support.fake_openstack.http_service import Failure


def order(cloud: Cloud, body: dict[str, Any], microversion: Microversion) -> list[Server]:
    """The requested servers, not yet in the cloud.

    Raises:
        Failure: with Nova's message.
    """
    asked = create_server_schema.check(body, microversion)
    _check_devices(asked)
    if not asked.get("imageRef") and not asked.get("block_device_mapping_v2"):
        raise Failure(400, "Missing imageRef attribute")
    flavor = _flavor(cloud, asked)
    zone = asked.get("availability_zone")
    if zone and zone not in cloud.availability_zones:
        raise Failure(400, "The requested availability zone is not available")
    image = _image(cloud, asked)
    _check_fit(flavor, image, asked)
    check_metadata_quota(cloud, asked.get("metadata", {}))
    _check_key_pair(cloud, asked)
    _check_security_groups(cloud, asked)
    networks = _networks(cloud, asked)
    count = _count(cloud, flavor, len(networks), asked)
    _check_boot_devices(cloud, asked)
    names = [asked["name"]] if count == 1 else [f"{asked['name']}-{n}" for n in range(1, count + 1)]
    return [
        Server(
            name=name,
            request=asked,
            flavor=flavor,
            image=image,
            networks=networks,
            user_data=base64.b64decode(asked["user_data"]) if "user_data" in asked else None,
            metadata=dict(asked.get("metadata", {})),
            tags=sorted(set(asked.get("tags", []))),
            description=asked.get("description") if microversion >= (2, 19) else name,
            created=cloud.now(),
            updated=cloud.now(),
        )
        for name in names
    ]


def _check_devices(asked: dict[str, Any]) -> None:
    for device in asked.get("block_device_mapping_v2", []):
        source, destination = device.get("source_type"), device.get("destination_type")
        if source is None:
            raise bad_device("Some required fields are missing")
        if source != "blank" and not device.get("uuid"):
            raise bad_device("Missing device UUID.")
        is_the_image = asked.get("imageRef") and device.get("boot_index") in (0, "0")
        if source == "image" and destination == "local" and not is_the_image:
            raise bad_device("Mapping image to local is not supported.")


# what the request refers to


def _flavor(cloud: Cloud, asked: dict[str, Any]) -> Flavor:
    flavor_id = str(asked["flavorRef"]).rpartition("/")[2]
    for flavor in cloud.flavors:
        if flavor.id == flavor_id:
            return flavor
    raise Failure(400, f"Flavor {flavor_id} could not be found.")


def _image(cloud: Cloud, asked: dict[str, Any]) -> Image | None:
    if not asked.get("imageRef"):
        return None
    image = find_image(cloud, asked["imageRef"])
    if image is None:
        raise Failure(400, "Can not find requested image")
    if image.status != "active":
        raise Failure(400, f"Image {image.id} is not active.")
    return image


def find_image(cloud: Cloud, image_id: str) -> Image | None:
    """The image with this id."""
    return next((image for image in cloud.images if image.id == image_id), None)


def _check_fit(flavor: Flavor, image: Image | None, asked: dict[str, Any]) -> None:
    if image is None:
        return
    if flavor.ram < image.min_ram:
        raise Failure(400, "Flavor's memory is too small for requested image.")
    if 0 < flavor.disk < image.min_disk:
        raise Failure(
            400,
            "Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is "
            f"{flavor.disk << 30} bytes, minimum size is {image.min_disk << 30} bytes.",
        )


def _check_key_pair(cloud: Cloud, asked: dict[str, Any]) -> None:
    name = asked.get("key_name")
    if name is not None and all(each.name != name for each in cloud.key_pairs):
        raise Failure(400, "Invalid key_name provided.")


def _check_security_groups(cloud: Cloud, asked: dict[str, Any]) -> None:
    groups = cloud.groups()
    for group in asked.get("security_groups", []):
        wanted = group["name"]
        named = [name for id_, name in groups if name == wanted]
        if len(named) > 1:
            raise Failure(
                409,
                f"Multiple security_group matches found for name '{wanted}', use an ID to be more specific.",
            )
        if not named and wanted not in (id_ for id_, _ in groups):
            raise Failure(400, f"Unable to find security_group with name or id '{wanted}'")


def _networks(cloud: Cloud, asked: dict[str, Any]) -> list[Network]:
    named = asked.get("networks", "auto")
    if named == "none":
        return []
    if named in ("auto", []):
        return _only_network(cloud)
    return [_network(cloud, each["uuid"]) for each in named]


def _only_network(cloud: Cloud) -> list[Network]:
    usable = [network for network in cloud.networks if not network.external]
    if len(usable) > 1:
        raise Failure(
            409,
            "More than one possible network found. Specify network ID(s) to select which one(s) to "
            "connect to.",
        )
    return usable


def _network(cloud: Cloud, network_id: str) -> Network:
    for network in cloud.networks:
        if network.id == network_id:
            return network
    raise Failure(400, f"Network {network_id} could not be found.")


def _check_boot_devices(cloud: Cloud, asked: dict[str, Any]) -> None:
    devices = asked.get("block_device_mapping_v2", [])
    if not devices:
        return  # then the server boots from the image; otherwise the image must be one of the devices
    order = [int(each["boot_index"]) for each in devices if each.get("boot_index") is not None]
    order = sorted(index for index in order if index >= 0)
    if not order or order != list(range(len(order))):
        raise bad_device(
            "Boot sequence for the instance and image/block device mapping combination is not valid."
        )
    for device in devices:
        if device["source_type"] == "image" and find_image(cloud, device["uuid"]) is None:
            raise bad_device(f"failed to get image {device['uuid']}.")
        if device.get("destination_type") == "volume" and not device.get("volume_size"):
            if device["source_type"] == "image":
                raise Failure(
                    400, "Images with destination_type 'volume' need to have a non-zero size specified"
                )
            if device["source_type"] == "blank":
                raise Failure(
                    400, "Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size"
                )


# quota


def check_metadata_quota(cloud: Cloud, metadata: dict[str, str]) -> None:
    """Raises: Failure, if there are more items than the quota allows."""
    allowed = cloud.quotas["metadata_items"]
    if 0 <= allowed < len(metadata):
        raise Failure(403, f"Maximum number of metadata items exceeds {allowed}")


def _count(cloud: Cloud, flavor: Flavor, networks: int, asked: dict[str, Any]) -> int:
    """How many servers to create: as many of the requested ones as the quotas allow."""
    least = int(asked.get("min_count", 1))
    most = int(asked.get("max_count", least))
    if least > most:
        raise Failure(400, "min_count must be <= max_count")
    if networks and cloud.quotas["port"] >= 0:
        room = (cloud.quotas["port"] - len(cloud.ports())) // networks
        if room < least:
            raise Failure(403, "Maximum number of ports exceeded")
        most = min(most, room)
    for count in range(most, least - 1, -1):
        if not _exceeded(cloud, flavor, count):
            return count
    raise _over_quota(cloud, flavor, least, most)


def _over_quota(cloud: Cloud, flavor: Flavor, least: int, most: int) -> Failure:
    used = cloud.used()
    over = _exceeded(cloud, flavor, most)
    wanted = {**_needs(flavor, most), "instances": least if least == most else f"{least}-{most}"}
    return Failure(
        403,
        f"Quota exceeded for {', '.join(over)}: "
        f"Requested {', '.join(str(wanted[each]) for each in over)}, "
        f"but already used {', '.join(str(used[each]) for each in over)} "
        f"of {', '.join(str(cloud.quotas[each]) for each in over)} {', '.join(over)}",
    )


def _needs(flavor: Flavor, count: int) -> dict[str, int]:
    return {"instances": count, "cores": count * flavor.vcpus, "ram": count * flavor.ram}


def _exceeded(cloud: Cloud, flavor: Flavor, count: int) -> list[str]:
    """The quotas that this number of new servers would exceed."""
    used = cloud.used()
    return sorted(
        name for name, more in _needs(flavor, count).items() if 0 <= cloud.quotas[name] < used[name] + more
    )
