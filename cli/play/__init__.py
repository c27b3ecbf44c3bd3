"""A page to play with: set a goal with the mouse and watch the agent think. `command` starts it.

command    the command line; keys, the key in the address
server     the page, and one WebSocket for each tab: bytes only
session    what a page shows: one world or two, and the orders of its tabs
lane       one world and its agent, in a thread of their own; players, agents with their checkpoints
stage      starts and goals, and what dragging makes of them
orders     what a tab may ask for
imagined   what the agent imagines, as something to look at; doubts, in sentences
pictures   pictures in and out
recorder   what was shown, saved and read again; film, as MP4 and GIF
words      the choices made, as a command line and as Python
training   a run under way, as what a page shows
page/      the pages themselves: plain HTML, CSS and modules
"""
