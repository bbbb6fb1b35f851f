def refuse(*arguments: Any) -> Any:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def replay_nvml(monkeypatch: pytest.MonkeyPatch, **changes: Callable[..., Any]) -> list[str]:
    """NVML's answers as an H100 gives them; returns the UUIDs that were asked for."""
    asked: list[str] = []

    def by_uuid(uuid: str) -> str:
        asked.append(uuid)
        return "handle"

    answers: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceGetName": lambda handle: "NVIDIA H100",
        "nvmlDeviceGetUUID": lambda handle: asked[-1],
        "nvmlSystemGetDriverVersion": lambda: "550.1",
        "nvmlDeviceGetPowerManagementLimit": lambda handle: 700_000,  # milliwatts
        "nvmlDeviceGetClockInfo": lambda handle, kind: {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}[kind],
        "nvmlDeviceGetTemperature": lambda handle, kind: 41,
        "nvmlDeviceGetUtilizationRates": lambda handle: type("Rates", (), {"gpu": 3})(),
    }
    for name, answer in {**answers, **changes}.items():
        monkeypatch.setattr(pynvml, name, answer)
    properties = type("Properties", (), {"uuid": "1234-ab"})()
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100 by torch")
    return asked


def test_a_gpu_is_found_by_the_uuid_that_torch_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by its index: CUDA_VISIBLE_DEVICES renumbers torch's devices and not NVML's."""
    asked = replay_nvml(monkeypatch)
    facts = gpu("cuda:0")
    assert asked == ["GPU-1234-ab"]
    assert facts == {
        "name": "NVIDIA H100",
        "uuid": "GPU-1234-ab",
        "driver": "550.1",
        "power_limit_w": 700.0,
        "sm_clock_mhz": 1980,
        "memory_clock_mhz": 2619,
        "temperature_c": 41,
        "utilization_percent": 3,
    }


def test_what_a_gpu_does_not_tell_is_none_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    replay_nvml(monkeypatch, nvmlDeviceGetTemperature=refuse)
    facts = gpu("cuda")
    assert facts["temperature_c"] is None
    assert "Not Supported" in facts["temperature_c_reason"]
    assert facts["sm_clock_mhz"] == 1980


def test_without_nvml_the_name_is_torchs_and_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    replay_nvml(monkeypatch, nvmlInit=refuse)
    facts = gpu("cuda")
    assert facts["name"] == "H100 by torch"
    assert facts["reason"].startswith("NVML: ")


def test_a_gpu_that_nvml_does_not_find_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    replay_nvml(monkeypatch, nvmlDeviceGetHandleByUUID=refuse)
    facts = gpu("cuda")
    assert facts["name"] == "H100 by torch"
    assert facts["reason"].startswith("NVML: ")
