from setuptools import find_packages, setup

# A wheel has the flag files inside the package; here they stand at the top, where people look.
setup(
    packages=[*find_packages(include=["rse_tf*"]), "rse_tf.flag_files"],
    package_dir={"rse_tf.flag_files": "flags"},
    package_data={
        "rse_tf": ["py.typed"],
        "rse_tf.reporting": ["*.csv", "*.jinja"],
        "rse_tf.flag_files": ["**/*.flags"],
    },
)
