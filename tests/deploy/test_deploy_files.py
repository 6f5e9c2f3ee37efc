"""deploy/ as far as it can be checked without an engine, a cluster or a GPU: its form, and the rules it must keep."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_file import FOLDER, ROOT, image_environment, read_compose

from flows.server import LEASES_ON_DISK

EXAMPLE = dict(
    line.split("=", 1) for line in (FOLDER / ".env.example").read_text().splitlines() if re.match(r"[A-Z_]+=", line)
)
FILLED = {name: value or f"planted-{name.lower()}" for name, value in EXAMPLE.items()} | {"ARCHIVES": "/data"}
SECRETS = [name for name, value in EXAMPLE.items() if not value and name != "ARCHIVES"]
COMPOSE = read_compose(FILLED)
OURS = [name for name, service in COMPOSE["services"].items() if service["image"].startswith("selfsight:")]
MANIFESTS = sorted(file for file in (FOLDER / "kubernetes").glob("*.yaml") if file.stem != "kustomization")


def job() -> dict[str, Any]:
    """The GPU job as a worker makes it: the template's defaults filled in, command and environment as lists."""
    template = json.loads((FOLDER / "kubernetes" / "gpu-job-template.json").read_text())
    values = {name: about.get("default", name) for name, about in template["variables"]["properties"].items()}

    def fill(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: fill(value) for key, value in part.items()}
        if isinstance(part, list):
            return [fill(value) for value in part]
        if isinstance(part, str) and (whole := re.fullmatch(r"\{\{ (\w+) \}\}", part)):
            return values[whole[1]]
        return re.sub(r"\{\{ (\w+) \}\}", lambda m: str(values[m[1]]), part) if isinstance(part, str) else part

    made: dict[str, Any] = fill(template["job_configuration"]["job_manifest"])
    pod = made["spec"]["template"]["spec"]
    for key in ("parallelism", "completions"):  # Prefect insists on them in this place, where Kubernetes knows none
        assert pod.pop(key) == 1
    pod["containers"][0] |= {"args": ["prefect", "flow-run", "execute"], "env": []}
    return made


def documents() -> list[tuple[str, dict[str, Any]]]:
    found = [(file.name, part) for file in MANIFESTS for part in yaml.safe_load_all(file.read_text())]
    return [*found, ("gpu-job-template.json", job())]


def pods() -> dict[str, dict[str, Any]]:
    return {
        name: part["spec"]["template"]["spec"] for name, part in documents() if part["kind"] in ("Deployment", "Job")
    }


def test_compose__ours_are_not_root_and_write_nowhere_but_volumes_and_memory():
    assert {"prefect", "mlflow", "worker", "buckets"} < set(OURS)
    assert re.search(r"^USER 10001", (FOLDER / "Dockerfile").read_text().rpartition("\nFROM ")[2], re.MULTILINE)
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"] and "/tmp" in service["tmpfs"], name
    assert not [name for name in OURS if "user" in COMPOSE["services"][name]]


def test_compose__ports_are_published_on_loopback_only():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2 and all(port.startswith("127.0.0.1:") for port in ports)
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "objects"):
        assert COMPOSE["services"][name]["networks"] == ["inside"] and "ports" not in COMPOSE["services"][name]


@pytest.mark.parametrize("name", SECRETS)
def test_compose__nothing_starts_without_a_secret(name):
    with pytest.raises(KeyError, match=name):
        read_compose({key: value for key, value in FILLED.items() if key != name})


def test_compose__no_secret_is_in_a_command_where_everybody_could_read_it():
    for name, service in COMPOSE["services"].items():
        words = json.dumps([service.get("command"), service.get("entrypoint"), service.get("healthcheck")])
        assert not [secret for secret in SECRETS if FILLED[secret] in words], name
    used = json.dumps(COMPOSE["services"])
    assert not [secret for secret in SECRETS if FILLED[secret] not in used]


def test_compose__servers_ask_for_a_password_and_run_no_jobs():
    prefect, mlflow = (COMPOSE["services"][name] for name in ("prefect", "mlflow"))
    assert prefect["environment"]["PREFECT_SERVER_API_AUTH_STRING"] == FILLED["PREFECT_AUTH_STRING"]
    assert prefect["environment"]["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert "*" not in prefect["environment"]["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert mlflow["command"][mlflow["command"].index("--app-name") + 1] == "basic-auth"
    assert "*" not in mlflow["command"][mlflow["command"].index("--allowed-hosts") + 1]
    for environment in (mlflow["environment"], image_environment()):
        assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert image_environment()["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_images__every_one_has_a_version_and_prefect_s_is_the_lock_s():
    dockerfile = (FOLDER / "Dockerfile").read_text()
    images = [service["image"] for service in COMPOSE["services"].values()]
    images += [word for word in re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)]
    images += [container["image"] for pod in pods().values() for container in pod["containers"]]
    assert len(images) > 8
    assert not [image for image in images if not re.search(r":\d+[\w.-]*\d", image) or "latest" in image]
    [locked] = re.findall(r"^prefect==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert [image for image in images if image.startswith(f"prefecthq/prefect:{locked}-")]
    [version] = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {image for image in images if image.startswith("selfsight:")} <= {
        f"selfsight:{version}-cpu", f"selfsight:{version}-cu130"
    }  # fmt: skip


def test_dockerfile__copies_every_package_and_no_secret():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored and "deploy/.env" in ignored and "deploy/.env" in (ROOT / ".gitignore").read_text().split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    for word in " ".join(copied).split():
        assert (ROOT / word).exists() and f"!{word}" in ignored, word
    for package in ("ssl_models", "domains", "pipelines", "flows", "selfsight.py"):
        assert package in " ".join(copied).split()
    assert not (FOLDER / ".env").exists() or not (FOLDER / ".env").stat().st_mode & 0o077


def test_secrets__the_example_holds_none():
    assert {"PREFECT_AUTH_STRING", "POSTGRES_PASSWORD", "AWS_SECRET_ACCESS_KEY", "MLFLOW_ADMIN_PASSWORD"} < set(SECRETS)
    literal = re.compile(
        r"(?i)(?:password|secret|secret_?key|access_?key|token|auth_string)\"?[:=] *\"?(\w[^\s\",]{5,})"
    )
    assert literal.search("POSTGRES_PASSWORD: hunter2") and not literal.search(
        "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD}"
    )
    for file in (file for file in FOLDER.rglob("*") if file.is_file() and file.name != ".env"):
        assert not literal.findall(file.read_text()), file.name


@pytest.mark.parametrize("name,part", documents(), ids=lambda value: value if isinstance(value, str) else value["kind"])
def test_kubernetes__manifests_are_what_kubernetes_knows(name, part):
    kubernetes_validate.validate(part, kubernetes_validate.latest_version(), strict=True)
    assert part["metadata"].get("namespace", part["metadata"].get("name")) == "selfsight"


@pytest.mark.parametrize("name", pods())
def test_kubernetes__pods_keep_the_restricted_rules(name):
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] >= 10000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["terminationGracePeriodSeconds"] == 300
    claims = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    for container in pod["containers"]:
        rules = container["securityContext"]
        assert rules["readOnlyRootFilesystem"] is True and rules["allowPrivilegeEscalation"] is False
        assert rules["capabilities"] == {"drop": ["ALL"]} and "memory" in container["resources"]["limits"]
        places = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert places["/tmp"] in claims
        plain = [one["name"] for one in container["env"] if "value" in one]
        assert not [key for key in plain if "PASSWORD" in key or key.endswith(("AUTH_STRING", "ACCESS_KEY"))]


def test_kubernetes__a_run_is_tried_once_on_a_gpu_with_shared_memory():
    made = job()
    pod = made["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert made["spec"]["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    memory = next(volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shared-memory")
    assert memory["medium"] == "Memory" and memory["sizeLimit"] == "8Gi"
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert next(m for m in container["volumeMounts"] if m["name"] == "archives")["readOnly"] is True
    claims = {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    made_here = {part["metadata"]["name"] for _, part in documents() if part["kind"] == "PersistentVolumeClaim"}
    assert claims == made_here


def test_compose__prefect_keeps_its_leases_as_a_homes_own_server_does():
    service = COMPOSE["services"]["prefect"]
    assert service["environment"]["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == LEASES_ON_DISK
    assert f"prefect:{service['environment']['PREFECT_HOME']}" in service["volumes"] and "prefect" in COMPOSE["volumes"]


def test_kubernetes__nothing_comes_in_and_only_servers_are_reached():
    policies = {part["metadata"]["name"]: part["spec"] for _, part in documents() if part["kind"] == "NetworkPolicy"}
    everybody = policies["nothing-in-only-servers-out"]
    assert everybody["podSelector"] == {} and set(everybody["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in everybody and all(rule.get("to") for rule in everybody["egress"])
    listed = yaml.safe_load((FOLDER / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [file.name for file in MANIFESTS]


def test_compose__docker_compose_reads_it(tmp_path):
    compose = [shutil.which("docker-compose")]
    if not compose[0]:
        pytest.skip("docker-compose is not here (Debian's package of that name)")
    (tmp_path / "env").write_text("".join(f"{name}={value}\n" for name, value in FILLED.items()))
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [*compose, "-f", str(FOLDER / "compose.yaml"), "--env-file", str(tmp_path / "env"), "config"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, check=False)
    assert done.returncode == 0, done.stderr
    theirs = yaml.safe_load(done.stdout)["services"]
    for name in set(theirs) - {"objects"}:  # whose $$ we leave as it is
        mine = COMPOSE["services"][name]
        assert theirs[name].get("command") == mine.get("command"), name
        assert theirs[name]["environment"] == mine["environment"], name


def test_dockerfile__hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([str(hadolint), str(FOLDER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
