"""Errors of exporting. Each has what was expected and what was received."""


class ExportError(ValueError):
    """The model or its spec does not fit the contract."""


class StoreError(OSError):
    """The model store could not be read or written. Published versions are unchanged."""


class GateError(ExportError):
    """The gate refused the version. `findings` has one line for each finding."""

    def __init__(self, message: str, findings: tuple[str, ...] = ()) -> None:
        super().__init__("\n".join([message, *(f"  - {finding}" for finding in findings)]))
        self.findings = findings
