"""A page to play with: set a goal with the mouse and watch the agent think. `command` starts it.

command    the command line
server     the page, and one WebSocket for each tab: bytes only
session    the world, the agent and their thread
orders     what a tab may ask for
imagined   what the agent imagines, as something to look at
pictures   pictures in and out
words      the choices made, as a command line and as Python
page/      the page itself: plain HTML, CSS and modules
"""
