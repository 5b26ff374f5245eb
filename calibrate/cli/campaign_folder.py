"""The folder of a campaign that a command makes: ``<ground truth>/<GPU>/<campaign>``."""

from pathlib import Path


def check_campaign_folder(folder: Path, gpu: str, given_by: str) -> Path:
    """Return the folder if it can be a campaign of that GPU. Raises CalibrateError otherwise.

    ``given_by`` is the option or argument that named it, for the message.
    """
    from calibrate.campaign.folders import check_campaign_name
    from calibrate.records.errors import CalibrateError
    from sim.hardware import find_gpu

    resolved = folder.resolve()
    check_campaign_name(resolved.name)
    if find_gpu(gpu, [resolved.parent.name]) is None:
        raise CalibrateError(
            f"{given_by} {folder}: a campaign of {gpu} lies in a folder of that name; "
            f"give <ground truth>/{gpu}/<campaign>"
        )
    return folder
