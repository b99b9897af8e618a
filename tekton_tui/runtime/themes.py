"""The console's own two themes; knows nothing of the widgets that use them.

One background in three depths (background, surface, panel), two accents (primary for what acts and for the
specialists, secondary for the operator), and green, amber and red kept for state.

A terminal of 256 colours shows the nearest of a coarse cube: a dark colour with a tint falls on teal or brown there, so
the grounds and greys have next to none (a saturation below 0.15 goes to the 24 greys), and the others lie near a corner.
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
    background="#121417",
    surface="#1b1e23",
    panel="#2e323a",
    success="#7fd48a",
    warning="#f5cd5f",
    error="#ff7b80",
    dark=True,
    variables={
        "text-primary": "#8fc1ff",
        "text-secondary": "#dcb2fa",
        "text-accent": "#8fc1ff",
        "text-success": "#7fd48a",
        "text-warning": "#f5cd5f",
        "text-error": "#ff8d91",
        "text-muted": "#9aa3b1",
        "text-disabled": "#7f8998",
        "foreground-muted": "#9aa3b1",
        "foreground-disabled": "#7f8998",
        "block-cursor-background": "#7cb7ff",
        "block-cursor-foreground": "#121417",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#2e323a",
        "block-cursor-blurred-foreground": "#d5dae4",
        "input-cursor-background": "#d5dae4",
        "input-cursor-foreground": "#121417",
        "input-selection-background": "#7cb7ff 35%",
        "border": "#7cb7ff",
        "border-blurred": "#2e323a",
        "scrollbar": "#2e323a",
        "scrollbar-hover": "#434953",
        "scrollbar-active": "#7cb7ff",
        "scrollbar-background": "#121417",
        "scrollbar-background-hover": "#121417",
        "scrollbar-background-active": "#121417",
        "scrollbar-corner-color": "#121417",
        "footer-background": "#1b1e23",
        "footer-foreground": "#9aa3b1",
        "footer-key-foreground": "#8fc1ff",
        "footer-description-foreground": "#b8bec9",
        "button-color-foreground": "#121417",
        "line": "#383d45",
        "steel": "#8aa0b8",
        "teal": "#66b8b8",
        "sand": "#c8b08a",
    },
)

TEKTON_LIGHT: Final = Theme(
    name=LIGHT_NAME,
    primary="#1258b0",
    secondary="#7e1aa6",
    accent="#1258b0",
    foreground="#20242a",
    background="#fbfbf9",
    surface="#f2f2ef",
    panel="#dfdfda",
    success="#0f6320",
    warning="#704a00",
    error="#b0101c",
    dark=False,
    variables={
        "text-primary": "#1258b0",
        "text-secondary": "#7e1aa6",
        "text-accent": "#1258b0",
        "text-success": "#0f6320",
        "text-warning": "#704a00",
        "text-error": "#b0101c",
        "text-muted": "#555d69",
        "text-disabled": "#646b76",
        "foreground-muted": "#555d69",
        "foreground-disabled": "#646b76",
        "block-cursor-background": "#1258b0",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#dfdfda",
        "block-cursor-blurred-foreground": "#20242a",
        "input-cursor-background": "#20242a",
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
        "footer-background": "#f2f2ef",
        "footer-foreground": "#555d69",
        "footer-key-foreground": "#1258b0",
        "footer-description-foreground": "#3a424d",
        "button-color-foreground": "#ffffff",
        "line": "#c9c9c0",
        "steel": "#4d6076",
        "teal": "#0f6e6a",
        "sand": "#7a5b1e",
    },
)

THEMES: Final = (TEKTON_DARK, TEKTON_LIGHT)
