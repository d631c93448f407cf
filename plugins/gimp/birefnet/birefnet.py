#!/usr/bin/env python3
"""GIMP 3: cut the subject out of what is seen, onto a layer, by a running `birefnet serve`.

Copy the folder `birefnet` into GIMP's folder of plug-ins (Edit > Preferences > Folders > Plug-ins)
and make this file executable. The command is Layer > Transparency > Remove Background (BiRefNet).
BIREFNET_SERVER and BIREFNET_API_KEY in the environment name another server.
"""

import json
import os
import sys
import tempfile
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import gi

gi.require_version("Gimp", "3.0")
from gi.repository import Gimp, Gio, GLib  # noqa: E402

SERVER = os.environ.get("BIREFNET_SERVER", "http://127.0.0.1:8000").rstrip("/")
KEY = os.environ.get("BIREFNET_API_KEY", "")
TIMEOUT = 600  # [s]; the first picture may wait for a download of the network
PROCEDURE = "plug-in-birefnet-remove-background"


def cut_out(picture):
    """The server's answer to the bytes of a PNG, the bytes of another."""
    options = urlencode({"type": "cutout", "format": "png"})
    headers = {"Content-Type": "image/png", **({"X-Api-Key": KEY} if KEY else {})}
    request = Request(f"{SERVER}/v1/remove?{options}", picture, headers)
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            return answer.read()
    except HTTPError as error:
        raise RuntimeError(message_of(error)) from None
    except URLError as error:
        raise RuntimeError(
            f"No server answers at {SERVER} ({error.reason}); start `birefnet serve`"
        ) from None


def message_of(error):
    """What the server says is wrong."""
    try:
        return json.load(error)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{error.url.partition('?')[0]} answered {error.code}: is it `birefnet serve`?"


def add_layer(image):
    """Put the cut-out of what is seen above all layers."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "picture.png")
        file = Gio.File.new_for_path(path)
        copy = image.duplicate()
        try:
            copy.merge_visible_layers(Gimp.MergeType.CLIP_TO_IMAGE)
            Gimp.file_save(Gimp.RunMode.NONINTERACTIVE, copy, file, None)
        finally:
            copy.delete()
        with open(path, "rb") as sent:
            picture = cut_out(sent.read())
        with open(path, "wb") as received:
            received.write(picture)
        layer = Gimp.file_load_layer(Gimp.RunMode.NONINTERACTIVE, image, file)
    layer.set_name("Cut-out")
    image.insert_layer(layer, None, 0)


class BiRefNet(Gimp.PlugIn):
    """Tells GIMP of the command."""

    def do_query_procedures(self):
        return [PROCEDURE]

    def do_set_i18n(self, name):
        return False

    def do_create_procedure(self, name):
        kind = Gimp.PDBProcType.PLUGIN
        procedure = Gimp.ImageProcedure.new(self, name, kind, self.run, None)
        procedure.set_image_types("*")
        procedure.set_menu_label("Remove Background (BiRefNet)")
        procedure.add_menu_path("<Image>/Layer/Transparency")
        procedure.set_documentation(
            "Cut the subject out of what is seen, onto a layer",
            "Sends the visible picture to a BiRefNet server and adds its answer as a layer.",
            name,
        )
        procedure.set_attribution("birefnet", "birefnet", "2026")
        return procedure

    def run(self, procedure, run_mode, image, drawables, config, data):
        Gimp.progress_init("Removing the background")
        image.undo_group_start()
        try:
            add_layer(image)
        except RuntimeError as error:
            failure = GLib.Error(str(error))
            return procedure.new_return_values(Gimp.PDBStatusType.EXECUTION_ERROR, failure)
        finally:
            image.undo_group_end()
        Gimp.displays_flush()
        return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, GLib.Error())


if __name__ == "__main__":
    Gimp.main(BiRefNet.__gtype__, sys.argv)
