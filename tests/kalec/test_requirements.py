"""What each step installs: found from what is installed and locked, without importing anything."""

import pytest
from pipelines import a_pipeline, a_step

from kalec.emit.distributions import Installed
from kalec.emit.lockfile import read_lock
from kalec.emit.requirements import step_requirements
from kalec.errors import Damaged, NotFound, Refused
from kalec.findings import Findings

BOMB = "raise SystemExit('a module was imported')\n"


class Site:
    """A folder of installed distributions."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def install(self, name, version, *files, top_level=(), origin=""):
        for file in files:
            (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / file).write_text(BOMB, encoding="utf-8")
        metadata = self.folder / f"{name}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "RECORD").write_text("".join(f"{file},sha256=x,9\n" for file in files), encoding="utf-8")
        if top_level:
            (metadata / "top_level.txt").write_text("\n".join(top_level), encoding="utf-8")
        if origin:
            (metadata / "direct_url.json").write_text(origin, encoding="utf-8")


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path / "site")


def required(site, *, lock=None, **of_step):
    """The requirements of a step, and the codes of what was found fault with."""
    findings = Findings()
    pipeline = a_pipeline(a_step("a", **of_step))
    found = step_requirements(pipeline, Installed([str(site.folder)]), lock, findings)["a"]
    return found, [finding.code for finding in findings.sorted()]


def test_a_module_is_installed_as_the_distribution_it_comes_from_at_its_version(site):
    site.install("scikit_learn", "1.5.0", "sklearn/__init__.py", "sklearn/svm/__init__.py")
    site.install("numpy", "2.1.0", "numpy/__init__.py", top_level=["numpy"])

    assert required(site, imports=["sklearn.svm", "numpy", "os.path", "json"]) == (
        ("numpy==2.1.0", "scikit-learn==1.5.0"),
        [],
    )


def test_of_a_namespace_only_the_distributions_that_have_the_module_are_taken(site):
    site.install("google_cloud_storage", "3.0", "google/cloud/storage/__init__.py")
    site.install("google_cloud_core", "2.0", "google/cloud/version.py")
    site.install("protobuf", "6.0", "google/protobuf/__init__.py")

    assert required(site, imports=["google.cloud.storage"])[0] == ("google-cloud-storage==3.0",)
    assert required(site, imports=["google.protobuf.message"])[0] == ("protobuf==6.0",)


def test_a_module_of_one_file_and_one_in_c_are_found(site):
    site.install("six", "1.17", "six.py")
    site.install("orjson_like", "1.0", "fast.cpython-311-x86_64-linux-gnu.so")

    assert required(site, imports=["six"])[0] == ("six==1.17",)
    assert Installed([str(site.folder)]).providers("fast")


def test_a_build_that_no_index_has_is_asked_for_by_its_public_version(site):
    site.install("torch", "2.1.0+cpu", "torch/__init__.py")

    assert required(site, imports=["torch"])[0] == ("torch==2.1.0",)


def test_a_module_that_is_not_installed_is_left_to_the_image_and_its_name_is_not_guessed(site):
    assert required(site, imports=["seaborn"]) == ((), ["KLC205"])


@pytest.mark.parametrize("origin", ['{"url": "file:///src/mine", "dir_info": {"editable": true}}', "not json"])
def test_what_no_index_has_is_not_asked_of_one(site, origin):
    site.install("mine", "1.0", "mine/__init__.py", origin=origin)

    assert required(site, imports=["mine"]) == ((), ["KLC205"])


def test_a_file_beside_the_notebook_is_no_distribution(site):
    (site.folder / "helpers.py").write_text(BOMB, encoding="utf-8")

    assert required(site, imports=["helpers"]) == ((), ["KLC205"])


def test_what_the_notebook_installs_comes_first_and_its_own_version_wins(site):
    site.install("numpy", "2.1.0", "numpy/__init__.py")
    site.install("pandas", "2.2.0", "pandas/__init__.py")
    found = required(
        site, imports=["numpy", "pandas"], requirements=["zarr[x]>=3", "NumPy==1.26", "pandas ; python_version>'3'"]
    )

    assert found == (("zarr[x]>=3", "NumPy==1.26", "pandas==2.2.0; python_version>'3'"), ["KLC204"])


def test_a_lock_decides_and_what_it_has_forgotten_is_noted(site):
    site.install("numpy", "2.1.0", "numpy/__init__.py")
    site.install("pandas", "2.2.0", "pandas/__init__.py")
    lock = {"numpy": "1.26.4", "scikit-learn": "1.4.0"}

    assert required(site, lock=lock, imports=["numpy", "pandas", "sklearn"]) == (
        ("numpy==1.26.4", "pandas==2.2.0", "scikit-learn==1.4.0"),
        ["KLC204"],
    )


LOCKS = {
    "requirements.txt": "# made\nNumPy==2.1.0 \\\n    --hash=sha256:aa\nscikit_learn[x] == 1.5 ; python_version > '3'\n"
    "loose>=1\n-e ./mine\nother @ https://x/y.whl\n-r more.txt\n",
    "more.txt": "pandas===2.2.0  # why\n-r requirements.txt\n",
    "uv.lock": 'version = 1\n[[package]]\nname = "numpy"\nversion = "2.1.0"\nsource = { registry = "https://x" }\n'
    '[[package]]\nname = "mine"\nversion = "0"\nsource = { editable = "." }\n'
    '[[package]]\nname = "scikit-learn"\nversion = "1.5"\n[[package]]\nname = "pandas"\nversion = "2.2.0"\n',
    "poetry.lock": '[[package]]\nname = "NumPy"\nversion = "2.1.0"\n[[package]]\nname = "pandas"\nversion = "2.2.0"\n'
    '[[package]]\nname = "scikit-learn"\nversion = "1.5"\n'
    '[[package]]\nname = "mine"\nversion = "1"\n[package.source]\ntype = "git"\nurl = "x"\n',
    "pylock.toml": 'lock-version = "1.0"\n[[packages]]\nname = "numpy"\nversion = "2.1.0"\n'
    '[[packages]]\nname = "pandas"\nversion = "2.2.0"\n[[packages]]\nname = "scikit-learn"\nversion = "1.5"\n'
    '[[packages]]\nname = "mine"\nversion = "1"\ndirectory = { path = "." }\n',
}


@pytest.mark.parametrize("name", ["requirements.txt", "uv.lock", "poetry.lock", "pylock.toml"])
def test_exact_versions_are_read_from_every_kind_of_lock(tmp_path, name):
    for file, text in LOCKS.items():
        (tmp_path / file).write_text(text, encoding="utf-8")

    assert read_lock(tmp_path / name) == {"numpy": "2.1.0", "pandas": "2.2.0", "scikit-learn": "1.5"}


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("uv.lock", b"[[", Damaged), ("requirements.txt", b"\xff\xfe", Damaged), ("Pipfile.lock", b"{}", Refused),
        ("requirements.txt", b"-r nowhere.txt", Damaged), ("absent.txt", None, NotFound),
    ],
)  # fmt: skip
def test_a_lock_that_cannot_be_read_is_refused(tmp_path, name, content, error):
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(error):
        read_lock(tmp_path / name)
