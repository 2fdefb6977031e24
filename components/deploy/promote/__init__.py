"""The stage `promote`, and the same by hand: a version becomes the champion."""
