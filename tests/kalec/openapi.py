"""Objects of Kubernetes held against the models that OpenAPI Generator has made of the published schemas.

The models are in Python packages (kubernetes, kubeflow-katib, kserve); their files are read and not imported.
"""

import ast
import functools
import re

# What the models themselves leave open, or describe by a class that takes a plain text or number.
SCALARS = {"str": str, "int": int, "float": (int, float), "bool": bool, "datetime": str}
OPEN = {"object", "ResourceQuantity", "IntOrString", "K8sIoApimachineryPkgApiResourceQuantity"}


class Models:
    """The models of some packages, under a folder of installed packages."""

    def __init__(self, site_packages):
        roots = ["kubernetes/client/models", "kubeflow/katib/models", "kserve/models"]
        self.folders = [site_packages / root for root in roots]
        assert all(folder.is_dir() for folder in self.folders)

    @functools.cache  # noqa: B019 - it lives as long as the tests
    def model(self, name):
        """The types by key, and the keys that must be there; None when there is no such model."""
        file_name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower() + ".py"
        text = next(
            ((folder / file_name).read_text() for folder in self.folders if (folder / file_name).exists()), None
        )
        if text is None:
            return None
        constants = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Dict)
        }
        keys = constants["attribute_map"]
        required = {keys[name] for name in re.findall(r"Invalid value for `(\w+)`, must not be `None`", text)}
        return {keys[name]: kind for name, kind in constants["openapi_types"].items()}, required

    def errors(self, value, kind, where=""):
        """All that keeps a value from being of a type, as sentences."""
        if container := re.fullmatch(r"list\[(.+)\]", kind):
            if not isinstance(value, list):
                yield f"{where} is no list"
                return
            for number, member in enumerate(value):
                yield from self.errors(member, container[1], f"{where}[{number}]")
        elif container := re.fullmatch(r"dict\(str, (.+)\)", kind):
            for key, member in value.items():
                yield from self.errors(member, container[1], f"{where}.{key}")
        elif kind in SCALARS:
            if not isinstance(value, SCALARS[kind]) or (kind != "bool" and isinstance(value, bool)):
                yield f"{where} is {value!r}, and no {kind}"
        elif kind not in OPEN:
            yield from self._object_errors(value, kind, where)

    def _object_errors(self, value, kind, where):
        model = self.model(kind)
        assert model, f"there is no model {kind}"
        types, required = model
        if not isinstance(value, dict):
            yield f"{where} is no object"
            return
        yield from (f"{where} has no {key}" for key in sorted(required - value.keys()))
        for key, member in value.items():
            if key in types:
                yield from self.errors(member, types[key], f"{where}.{key}")
            else:
                yield f"{where} may not have {key}"
