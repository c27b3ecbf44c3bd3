from glob import glob

from setuptools import setup

NAME = "latent_planner_ros"

setup(
    name=NAME,
    version="0.1.0",
    description="Camera frames in, joint commands out: a node that asks latent-planner how to reach a goal",
    license="MIT",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/config", glob("config/*.yaml")),
        (f"share/{NAME}/launch", glob("launch/*.launch.py")),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={"console_scripts": [f"planner = {NAME}.node:main"]},
)
