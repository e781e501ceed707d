"""The course: what every lesson begins with, and where the lessons' scripts are."""

from minidl.course.lesson import Lesson, lesson
from minidl.course.scripts import Script, copy, find, lessons, run

__all__ = ["Lesson", "Script", "copy", "find", "lesson", "lessons", "run"]
