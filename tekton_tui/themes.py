"""The console's own two themes; knows nothing of the widgets that use them.

One background in three depths (background, surface, panel), two accents (primary for what acts and for the
specialists, secondary for the operator), and green, amber and red kept for state.
"""

from __future__ import annotations

from typing import Final

from textual.theme import Theme

DARK_NAME: Final = "tekton-dark"
LIGHT_NAME: Final = "tekton-light"

TEKTON_DARK: Final = Theme(
    name=DARK_NAME,
    primary="#7cb7ff",
    secondary="#e0b0ff",
    accent="#7cb7ff",
    foreground="#d5dae4",
    background="#11151d",
    surface="#1a202b",
    panel="#2a3342",
    success="#7fd48a",
    warning="#f2c14e",
    error="#ff7b80",
    dark=True,
    variables={
        "text-primary": "#8fc1ff",
        "text-secondary": "#dcb2fa",
        "text-accent": "#8fc1ff",
        "text-success": "#7fd48a",
        "text-warning": "#f2c14e",
        "text-error": "#ff8d91",
        "text-muted": "#98a3b5",
        "text-disabled": "#737e90",
        "foreground-muted": "#98a3b5",
        "foreground-disabled": "#737e90",
        "block-cursor-background": "#7cb7ff",
        "block-cursor-foreground": "#11151d",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#2a3342",
        "block-cursor-blurred-foreground": "#d5dae4",
        "input-cursor-background": "#d5dae4",
        "input-cursor-foreground": "#11151d",
        "input-selection-background": "#7cb7ff 35%",
        "border": "#7cb7ff",
        "border-blurred": "#2a3342",
        "scrollbar": "#2a3342",
        "scrollbar-hover": "#3d4a5e",
        "scrollbar-active": "#7cb7ff",
        "scrollbar-background": "#11151d",
        "scrollbar-background-hover": "#11151d",
        "scrollbar-background-active": "#11151d",
        "scrollbar-corner-color": "#11151d",
        "footer-background": "#1a202b",
        "footer-foreground": "#98a3b5",
        "footer-key-foreground": "#8fc1ff",
        "footer-description-foreground": "#b4bdcc",
        "button-color-foreground": "#11151d",
    },
)

TEKTON_LIGHT: Final = Theme(
    name=LIGHT_NAME,
    primary="#1258b0",
    secondary="#7a2f9e",
    accent="#1258b0",
    foreground="#1d232c",
    background="#fbfbf9",
    surface="#f0f0ec",
    panel="#dcdcd5",
    success="#1e6b2e",
    warning="#7a5200",
    error="#b3202a",
    dark=False,
    variables={
        "text-primary": "#1258b0",
        "text-secondary": "#7a2f9e",
        "text-accent": "#1258b0",
        "text-success": "#1e6b2e",
        "text-warning": "#7a5200",
        "text-error": "#b3202a",
        "text-muted": "#555d69",
        "text-disabled": "#767d88",
        "foreground-muted": "#555d69",
        "foreground-disabled": "#767d88",
        "block-cursor-background": "#1258b0",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#dcdcd5",
        "block-cursor-blurred-foreground": "#1d232c",
        "input-cursor-background": "#1d232c",
        "input-cursor-foreground": "#fbfbf9",
        "input-selection-background": "#1258b0 25%",
        "border": "#1258b0",
        "border-blurred": "#c9c9c0",
        "scrollbar": "#c9c9c0",
        "scrollbar-hover": "#a9a99f",
        "scrollbar-active": "#1258b0",
        "scrollbar-background": "#fbfbf9",
        "scrollbar-background-hover": "#fbfbf9",
        "scrollbar-background-active": "#fbfbf9",
        "scrollbar-corner-color": "#fbfbf9",
        "footer-background": "#f0f0ec",
        "footer-foreground": "#555d69",
        "footer-key-foreground": "#1258b0",
        "footer-description-foreground": "#3a424d",
        "button-color-foreground": "#ffffff",
    },
)

THEMES: Final = (TEKTON_DARK, TEKTON_LIGHT)
