"""Blender: cut the subject out of the image in the Image Editor, by a running `birefnet serve`.

Edit > Preferences > Add-ons > Install from Disk, and choose this file. The command is in the Image
Editor's menu Image; the result is a new image with alpha, packed into the .blend file.
"""

import json
import os
import tempfile
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import bpy

bl_info = {
    "name": "BiRefNet: remove background",
    "author": "birefnet",
    "version": (1, 0, 0),
    "blender": (4, 0, 0),
    "location": "Image Editor > Image > Remove Background",
    "description": "Cut the subject out of an image by a BiRefNet server",
    "category": "Image",
}

SERVER = "http://127.0.0.1:8000"
TIMEOUT = 600  # [s]; the first picture may wait for a download of the network


class Preferences(bpy.types.AddonPreferences):
    bl_idname = __name__

    server: bpy.props.StringProperty(name="Server", default=SERVER)
    api_key: bpy.props.StringProperty(name="API key", subtype="PASSWORD")

    def draw(self, context):
        self.layout.prop(self, "server")
        self.layout.prop(self, "api_key")


class IMAGE_OT_birefnet_remove_background(bpy.types.Operator):  # noqa: N801 - Blender's rule
    """Cut the subject out of this image"""

    bl_idname = "image.birefnet_remove_background"
    bl_label = "Remove Background"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - Blender's form

    image_name: bpy.props.StringProperty(options={"HIDDEN"})
    kind: bpy.props.EnumProperty(
        name="Output",
        items=[("cutout", "Cut-out", "RGBA"), ("mask", "Mask", "Grey levels")],
    )
    passes: bpy.props.IntProperty(
        name="Passes", default=1, min=1, max=2, description="2 redoes edges at full resolution"
    )
    mask_offset: bpy.props.FloatProperty(name="Move Edge [px]", min=-64, max=64)
    mask_blur: bpy.props.FloatProperty(name="Soften Edge [px]", min=0, max=64)

    def execute(self, context):
        edited = getattr(context.space_data, "image", None)
        image = bpy.data.images.get(self.image_name) or edited
        if image is None or (not image.has_data and image.size[0] == 0):
            self.report({"ERROR"}, "There is no image to cut out")
            return {"CANCELLED"}
        options = {
            "type": self.kind,
            "format": "png",
            "passes": self.passes,
            "mask_offset": self.mask_offset,
            "mask_blur": self.mask_blur,
        }
        with tempfile.TemporaryDirectory() as folder:
            try:
                picture = cut_out(encoded(image, folder), options)
            except RuntimeError as error:
                self.report({"ERROR"}, str(error))
                return {"CANCELLED"}
            result = loaded(picture, f"{image.name} {self.kind}", folder)
        if edited is not None:
            context.space_data.image = result
        self.report({"INFO"}, f"Made {result.name}")
        return {"FINISHED"}


def encoded(image, folder):
    """An image of Blender, with what was painted on it, as the bytes of a file of its format."""
    path = os.path.join(folder, "sent")
    image.save(filepath=path, save_copy=True)
    with open(path, "rb") as file:
        return file.read()


def loaded(picture, name, folder):
    """The bytes of a PNG as an image of Blender, packed."""
    path = os.path.join(folder, "received.png")
    with open(path, "wb") as file:
        file.write(picture)
    result = bpy.data.images.load(path)
    result.name = name
    result.pack()
    result.filepath_raw = ""
    return result


def cut_out(picture, options):
    """The server's answer to the bytes of a picture's file, those of a PNG."""
    addon = bpy.context.preferences.addons.get(__name__)
    server = (addon.preferences.server if addon else SERVER).rstrip("/")
    headers = {"Content-Type": "application/octet-stream"}
    if addon and addon.preferences.api_key:
        headers["X-Api-Key"] = addon.preferences.api_key
    request = Request(f"{server}/v1/remove?{urlencode(options)}", picture, headers)
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            return answer.read()
    except HTTPError as error:
        raise RuntimeError(message_of(error)) from None
    except URLError as error:
        raise RuntimeError(
            f"No server answers at {server} ({error.reason}); start `birefnet serve`"
        ) from None


def message_of(error):
    """What the server says is wrong."""
    try:
        return json.load(error)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{error.url.partition('?')[0]} answered {error.code}: is it `birefnet serve`?"


def menu(self, context):
    self.layout.operator(IMAGE_OT_birefnet_remove_background.bl_idname)


def register():
    bpy.utils.register_class(Preferences)
    bpy.utils.register_class(IMAGE_OT_birefnet_remove_background)
    bpy.types.IMAGE_MT_image.append(menu)


def unregister():
    bpy.types.IMAGE_MT_image.remove(menu)
    bpy.utils.unregister_class(IMAGE_OT_birefnet_remove_background)
    bpy.utils.unregister_class(Preferences)
