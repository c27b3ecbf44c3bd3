"""The node with its parameters and topics.

ros2 launch latent_planner_ros planner.launch.py parameters:=my.yaml image:=/camera/image_raw
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description():
    share = get_package_share_directory("latent_planner_ros")
    topics = {"image": "/camera/image_raw", "goal": "/goal_image", "command": "/arm/commands"}
    asked = {"parameters": os.path.join(share, "config", "arm.yaml"), **topics}
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=value) for name, value in asked.items()),
            Node(
                package="latent_planner_ros",
                executable="planner",
                name="latent_planner",
                parameters=[LaunchConfiguration("parameters")],
                remappings=[(name, LaunchConfiguration(name)) for name in topics],
                output="screen",
            ),
        ]
    )
